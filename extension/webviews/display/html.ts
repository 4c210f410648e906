/** The display panel's document. Nothing is loaded but our own script, and nothing runs that does not carry the nonce. */
export function displayHtml(options: { nonce: string; scriptUri: string }): string {
  const { nonce, scriptUri } = options;
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'nonce-${nonce}'; style-src 'nonce-${nonce}'">
<title>Guest Display</title>
<style nonce="${nonce}">
body { margin: 0; padding: 8px; }
canvas { display: block; max-width: 100%; max-height: calc(100vh - 4em); outline: 1px solid var(--vscode-panel-border, gray); cursor: crosshair; }
canvas:focus { outline: 2px solid var(--vscode-focusBorder, blue); }
[hidden] { display: none; }
p { margin: 8px 0 0; color: var(--vscode-descriptionForeground, gray); }
</style>
</head>
<body>
<canvas id="screen" tabindex="0" role="application" aria-label="The guest's display. While it has the focus, keys go to the guest; Control and Alt give them back." hidden></canvas>
<p id="note">The guest shows no picture yet.</p>
<p>Click the picture to type in it; Ctrl+Alt gives the keyboard back.</p>
<script nonce="${nonce}" src="${scriptUri}"></script>
</body>
</html>
`;
}
