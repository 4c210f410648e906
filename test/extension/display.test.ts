/** The display panel's page in a browser, with its own content security policy, and a stand-in for VS Code's end. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';
import { png } from '../../debug-adapter/screen.ts';
import type { Screen } from '../../emulator/index.ts';
import { displayHtml } from '../../extension/webviews/display/html.ts';
import type { FromPage, ToPage } from '../../extension/webviews/display/messages.ts';

const ROOT = path.resolve(path.dirname(new URL(import.meta.url).pathname), '../..');
const ORIGIN = 'https://display.test';
const executablePath = [
  process.env.TESTBED_CHROMIUM,
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
].find((b) => b && fs.existsSync(b));

/** One colour, as blue, green, red. */
const plain = (width: number, height: number, ...bgr: number[]): Screen => {
  const bytes = new Uint8Array(4 * width * height);
  for (let i = 0; i < bytes.length; i += 4) bytes.set(bgr, i);
  return { width, height, depth: 32, pitch: 4 * width, bytes };
};

test('the page draws rectangles, gives keys and clicks to the guest, and loads nothing else', { timeout: 60_000 }, async () => {
  const bundle = await build({
    entryPoints: [path.join(ROOT, 'extension/webviews/display/page.ts')],
    bundle: true,
    write: false,
    format: 'iife',
    target: 'es2022',
  });
  assert.ok(executablePath, 'no Chromium found: install the distribution package `chromium`, or set TESTBED_CHROMIUM');
  const browser = await chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--disable-gpu', '--force-color-profile=srgb'],
  });
  try {
    const page = await browser.newPage();
    const wrong: string[] = [];
    page.on('pageerror', (e) => wrong.push(e.message));
    page.on('console', (m) => void (m.type() === 'error' && wrong.push(m.text())));
    await page.route(`${ORIGIN}/**`, (route) =>
      route.request().url() === `${ORIGIN}/display.js`
        ? route.fulfill({ contentType: 'text/javascript', body: bundle.outputFiles[0].text })
        : route.fulfill({
            contentType: 'text/html',
            body: displayHtml({ nonce: 'n0nce', scriptUri: `${ORIGIN}/display.js` }),
          }),
    );
    const sent: FromPage[] = [];
    await page.exposeFunction('toExtension', (message: FromPage) => void sent.push(message));
    await page.addInitScript('globalThis.acquireVsCodeApi = () => ({ postMessage: (m) => void globalThis.toExtension(m) })');
    await page.goto(`${ORIGIN}/`);
    const until = async (what: string, ready: () => boolean | Promise<boolean>): Promise<void> => {
      for (let i = 0; !(await ready()); i++) {
        if (i === 200) throw new Error(`${what}: not within 10 s; sent ${JSON.stringify(sent)}; ${wrong.join('; ')}`);
        await page.waitForTimeout(50);
      }
    };
    const post = (message: ToPage): Promise<void> => page.evaluate(`window.postMessage(${JSON.stringify(message)}, '*')`);
    const change = (screen: Screen, x: number, y: number, screenWidth: number, screenHeight: number): ToPage => {
      const { width, height } = screen;
      return { kind: 'change', change: { screenWidth, screenHeight, x, y, width, height, png: png(screen).toString('base64') } };
    };
    const pixel = (x: number, y: number): Promise<number[]> =>
      page.evaluate(`[...document.getElementById('screen').getContext('2d').getImageData(${x}, ${y}, 1, 1).data.slice(0, 3)]`);
    const events = () => sent.splice(0).flatMap((m) => (m.kind === 'input' ? m.events : []));

    await until('ready', () => sent.length > 0);
    assert.deepEqual(sent.splice(0), [{ kind: 'ready' }]);
    await post(change(plain(200, 100, 1, 2, 3), 0, 0, 200, 100));
    await post(change(plain(10, 20, 200, 100, 50), 30, 40, 200, 100));
    await until('the second rectangle', async () => (await pixel(30, 40))[0] === 50);
    assert.deepEqual(await Promise.all([pixel(0, 0), pixel(29, 40), pixel(39, 59), pixel(40, 59), pixel(199, 99)]), [
      [3, 2, 1],
      [3, 2, 1],
      [50, 100, 200],
      [3, 2, 1],
      [3, 2, 1],
    ]);

    // Keys are nobody's until the picture has the focus.
    await page.keyboard.press('KeyX');
    const canvas = page.locator('#screen');
    await canvas.click({ position: { x: 199, y: 0 } });
    await page.keyboard.press('Shift+KeyA');
    await page.mouse.wheel(0, 120);
    const got: ReturnType<typeof events> = [];
    await until('the wheel', () => {
      got.push(...events());
      return got.some((e) => 'wheel' in e);
    });
    assert.deepEqual(
      got.flatMap((e) => ('code' in e ? [`${e.code} ${e.down ? 'down' : 'up'}`] : [])),
      ['ShiftLeft down', 'KeyA down', 'KeyA up', 'ShiftLeft up'],
    );
    const pointer = got.filter((e) => 'x' in e);
    assert.deepEqual(
      pointer.map((e) => [e.x, e.y, e.buttons, e.wheel ?? 0]).filter((e, i, all) => i === 0 || String(e) !== String(all[i - 1])),
      [
        [32767, 0, 0, 0],
        [32767, 0, 1, 0],
        [32767, 0, 0, 0],
        [32767, 0, 0, -1],
      ],
    );

    // A chord of the editor's goes to the guest, too; Ctrl+Alt gives the keyboard back, with every key up.
    await page.keyboard.down('ControlLeft');
    await page.keyboard.press('KeyP');
    await page.keyboard.down('AltLeft');
    await page.keyboard.press('KeyX');
    await until('all keys up', () => {
      got.push(...events());
      return got.some((e) => 'code' in e && e.code === 'AltLeft' && !e.down);
    });
    assert.deepEqual(got.flatMap((e) => ('code' in e ? [`${e.code} ${e.down ? 'down' : 'up'}`] : [])).slice(4), [
      'ControlLeft down',
      'KeyP down',
      'KeyP up',
      'AltLeft down',
      'ControlLeft up',
      'AltLeft up',
    ]);

    await post({ kind: 'none', text: 'The guest shows no picture.' });
    await until('no picture', () => page.locator('#note').isVisible());
    assert.deepEqual(
      [await canvas.isVisible(), await page.locator('#note').textContent()],
      [false, 'The guest shows no picture.'],
    );
    // Scripts and requests that are not ours do not run.
    assert.equal(
      await page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), { text: 'window.x = 1' })), window.x",
      ),
      undefined,
    );
    assert.equal(wrong.length, 1);
    assert.match(wrong[0], /inline script.*Content Security Policy/);
  } finally {
    await browser.close();
  }
});
