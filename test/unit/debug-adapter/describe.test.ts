import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crashReport, describeTraceEvent, exitTitle, valueText } from '../../../debug-adapter/describe.ts';
import type { GuestKernel } from '../../../debug-adapter/linux/kernel.ts';
import { Symbolizer } from '../../../debug-adapter/symbols/symbolizer.ts';

test('bytes of a field: what is used of it, and how much is not', () => {
  const bytes = (length: number, ...used: number[]) => Object.assign(new Uint8Array(length), used);
  assert.equal(valueText(bytes(4, 1, 0xab)), '01 ab 00 00');
  assert.equal(valueText(bytes(120, 4)), '04, 119 zero bytes');
  assert.equal(valueText(bytes(120)), '120 zero bytes');
  assert.equal(valueText(bytes(0)), '');
  const full = valueText(new Uint8Array(200).fill(7));
  assert.ok(full.startsWith('07 07 ') && full.endsWith(' ... (200 bytes)') && full.length < 220, full);
});

test('a trace line of a message without fields ends with its name', () => {
  const event = { kind: 'message', direction: 'guest-to-host', type: 3, name: 'RequestOffers', fields: {} } as const;
  assert.equal(describeTraceEvent(event, 1_500_000_000, new Symbolizer()), '1.500000000 message <- RequestOffers');
});

test("a crash is named by its panic line, however long the guest's message is", () => {
  const message = '[    0.1] Booting\n[    2.5] Kernel panic - not syncing: no init\n[    2.6] Rebooting in 5 seconds..\n\n';
  const exit = { kind: 'crash', vp: 0, parameters: [1n, 2n, 3n, 4n, 5n], control: 3n << 62n, message } as const;
  const kernel = { symbols: new Symbolizer() } as unknown as GuestKernel;
  const title = (text: string) => exitTitle({ ...exit, parameters: [...exit.parameters], message: text }, kernel);
  assert.equal(title(message), 'guest crash: Kernel panic - not syncing: no init');
  assert.equal(title('one\nasked for\n'), 'guest crash: asked for');
  assert.deepEqual(crashReport(message), ['[    2.5] Kernel panic - not syncing: no init', '[    2.6] Rebooting in 5 seconds..']);
  assert.equal(crashReport(`Oops\n${'x\n'.repeat(100)}`).length, 40);
  assert.equal(title(''), 'guest crash: 0x1, 0x2, 0x3, 0x4, 0x5');
});
