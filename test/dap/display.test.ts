/** The display's requests, with a guest that has no driver for any of it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Client, EMBEDDED } from './harness.ts';

test('a guest without a picture has none, and input that it has no drivers for is refused', async (t) => {
  const dc = await Client.start(t);
  await dc.launch({ kernel: EMBEDDED, memory: 64, display: '800x600', stopOnEntry: true });
  await dc.stopped();
  assert.deepEqual(await dc.request('hyperstep/screen', { all: false }), {});
  assert.deepEqual(await dc.request('hyperstep/screen', { all: true }), { change: 'none' });
  const events = [
    { code: 'KeyA', down: true },
    { code: 'Nonsense', down: true },
    { x: 1, y: 2, buttons: 1 },
  ];
  assert.deepEqual(await dc.request('hyperstep/input', { events }), { refused: 3 });
  assert.deepEqual(await dc.request('hyperstep/input', { events: [] }), { refused: 0 });
  await dc.finish();
});

test('a display that is no size is told by the setting', async (t) => {
  const dc = await Client.start(t);
  assert.equal(
    await dc.refused('launch', { kernel: EMBEDDED, display: '1x1' }),
    'launch.json: "display": a display has 640x480 to 3840x2160 pixels and a width that is a multiple of 8, not 1x1',
  );
});
