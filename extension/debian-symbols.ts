/** Fetches debug information and sources of one of Debian's kernels, with progress and cancel, and has sessions use them. */
import { spawn } from 'node:child_process';
import * as vscode from 'vscode';
import { pickKernel } from './launch.ts';
import type { Sessions } from './session-client.ts';

const TITLE = "Debian's symbols and sources";

/** Of the kernel that is being debugged, or of one that the user chooses. */
export async function fetchDebianSymbols(context: vscode.ExtensionContext, sessions: Sessions): Promise<void> {
  const client = sessions.current;
  const release = client && (await client.request('hyperstep/symbols', { reload: false })).release;
  const kernel = release === undefined ? await pickKernel() : undefined;
  if (release === undefined && kernel === undefined) return;
  const what = release === undefined ? ['--kernel', kernel ?? ''] : ['--release', release];
  const done = await vscode.window.withProgress(
    { location: vscode.ProgressLocation.Notification, title: TITLE, cancellable: true },
    (progress, token) => run(context.asAbsolutePath('dist/cli.mjs'), what, progress, token),
  );
  if (done === 'cancelled') return;
  if (done.failed) {
    void vscode.window.showErrorMessage(`${TITLE}: ${done.said}`);
    return;
  }
  const found = await Promise.all(sessions.all.map((c) => c.request('hyperstep/symbols', { reload: true })));
  const problem = found.find((f) => f.release === release && f.file === undefined)?.problem ?? done.said;
  if (problem) void vscode.window.showWarningMessage(`${TITLE}: ${problem}`);
  else void vscode.window.showInformationMessage(`${TITLE} of ${release ?? kernel} are there, and are used from now on.`);
}

/** `hyperstep debian-symbols`. `said`: what went wrong, or what is missing; empty when nothing is. */
function run(
  cli: string,
  what: readonly string[],
  progress: vscode.Progress<{ message?: string }>,
  token: vscode.CancellationToken,
): Promise<'cancelled' | { failed: boolean; said: string }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [cli, 'debian-symbols', ...what], {
      env: { ...process.env, ELECTRON_RUN_AS_NODE: '1' },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const cancelled = token.onCancellationRequested(() => child.kill('SIGTERM'));
    const PREFIX = 'hyperstep: ';
    let rest = '';
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines)
        if (line.startsWith(PREFIX)) said = line.slice(PREFIX.length);
        else progress.report({ message: line });
    });
    const end = (failed: boolean, why: string): void => {
      cancelled.dispose();
      resolve(token.isCancellationRequested ? 'cancelled' : { failed, said: why });
    };
    child.on('error', (e) => end(true, e.message));
    child.on('close', (status) => end(status !== 0, said || (status === 0 ? '' : `it ended with status ${status}`)));
  });
}
