/** The display panel's page: draws the rectangles that the extension sends, and sends what is typed and clicked on the picture. */
import type { ScreenChange } from '../../../debug-adapter/protocol.ts';
import { PanelInputQueue } from './input.ts';
import type { FromPage, ToPage } from './messages.ts';

declare function acquireVsCodeApi(): { postMessage(message: FromPage): void };

const vscode = acquireVsCodeApi();
const element = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;
const canvas = element<HTMLCanvasElement>('screen');
const note = element('note');
const context = canvas.getContext('2d');
if (!context) throw new Error('this browser has no 2D canvas');

// --- the picture -------------------------------------------------------------------------------------------------------------

async function draw({ screenWidth, screenHeight, x, y, png }: ScreenChange): Promise<void> {
  const bytes = Uint8Array.from(atob(png), (c) => c.charCodeAt(0));
  const picture = await createImageBitmap(new Blob([bytes], { type: 'image/png' }));
  if (canvas.width !== screenWidth || canvas.height !== screenHeight) {
    canvas.width = screenWidth;
    canvas.height = screenHeight;
  }
  context?.drawImage(picture, x, y);
  picture.close();
  canvas.hidden = false;
  note.hidden = true;
}

/** Rectangles are drawn one after the other, however long each takes to decode. */
let drawing = Promise.resolve();
window.addEventListener('message', ({ data }: MessageEvent<ToPage>) => {
  drawing = drawing.then(async () => {
    if (data.kind === 'change') await draw(data.change);
    else {
      canvas.hidden = true;
      note.hidden = false;
      note.textContent = data.text;
    }
  });
});

// --- keys and pointer --------------------------------------------------------------------------------------------------------

const queue = new PanelInputQueue();
let scheduled = false;
function flush(): void {
  scheduled = false;
  if (!queue.empty) vscode.postMessage({ kind: 'input', events: queue.take() });
}
/** At most one message per frame. */
function schedule(): void {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(flush);
}

/** While the picture has the focus all keys are the guest's, the editor's chords too; Ctrl+Alt gives them back. */
function onKey(event: KeyboardEvent, down: boolean): void {
  if (document.activeElement !== canvas) return;
  event.preventDefault();
  event.stopPropagation();
  queue.key(event.code, down);
  if (down && event.ctrlKey && event.altKey && /^(Control|Alt)Left$/.test(event.code)) canvas.blur();
  schedule();
}
window.addEventListener('keydown', (event) => onKey(event, true), true);
window.addEventListener('keyup', (event) => onKey(event, false), true);
const letGo = (): void => {
  queue.release();
  schedule();
};
canvas.addEventListener('blur', letGo);
window.addEventListener('blur', letGo);

function onPointer(event: MouseEvent, wheel = 0): void {
  const { width, height } = canvas.getBoundingClientRect();
  queue.pointer({ x: event.offsetX, y: event.offsetY, width, height, buttons: event.buttons }, wheel);
  schedule();
}
canvas.addEventListener('pointermove', (event) => onPointer(event));
canvas.addEventListener('pointerdown', (event) => {
  canvas.focus();
  canvas.setPointerCapture(event.pointerId);
  onPointer(event);
});
canvas.addEventListener('pointerup', (event) => onPointer(event));
canvas.addEventListener('contextmenu', (event) => event.preventDefault());
canvas.addEventListener(
  'wheel',
  (event) => {
    event.preventDefault();
    if (event.deltaY !== 0) onPointer(event, -Math.sign(event.deltaY));
  },
  { passive: false },
);

vscode.postMessage({ kind: 'ready' });
