/** Guests that crash and reset: the session shows why, starts the machine again, and what the user has set stays set. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import type { DebugProtocol } from '@vscode/debugprotocol';
import { debianGuest, debianInitramfs } from '../../scripts/debian-guest.mjs';
import { Client } from './harness.ts';

const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'hyperstep-reset-'));
after(() => fs.rmSync(scratch, { recursive: true, force: true }));
const file = (name: string, data: Uint8Array): string => {
  const to = path.join(scratch, name);
  fs.writeFileSync(to, data);
  return to;
};

test('a guest that resets starts again in the same session, and stops at the same breakpoint', async (t) => {
  // nop; nop; movz x0, #9; movk x0, #0x8400, lsl #16; hvc #0: PSCI SYSTEM_RESET
  const program = new Uint8Array(Uint32Array.of(0xd503201f, 0xd503201f, 0xd2800120, 0xf2b08000, 0xd4000002).buffer);
  const dc = await Client.start(t);
  await dc.launch({ kernel: file('reset.flat', program), boot: 'device-tree', memory: 64 }, async () => {
    await dc.request('setInstructionBreakpoints', { breakpoints: [{ instructionReference: '0x80004' }] });
  });
  for (let boot = 1; boot <= 3; boot++) {
    const stop = await dc.stopped();
    assert.equal(stop.reason, 'instruction breakpoint');
    const value = (await dc.request('evaluate', {
      expression: '$pc',
      context: 'repl',
    })) as DebugProtocol.EvaluateResponse['body'];
    assert.match(value.result, /80004/);
    await dc.request('continue', { threadId: 1 });
    await dc.event<DebugProtocol.OutputEvent['body']>('output', (o) => /^The guest resets after 5 instructions/.test(o.output));
  }
  await dc.finish();
});

test('a panic is a stop with its text; the reboot after it is the same session, with function breakpoints found again', async (t) => {
  const guest = await debianGuest();
  const script = { path: 'script', mode: 0o755, data: '#!/bin/sh\necho c >/proc/sysrq-trigger\n' };
  const initrd = file('initrd', await debianInitramfs({ extra: [script] }));
  const dc = await Client.start(t);
  const append = 'console=ttyAMA0 panic=-1 hyperstep.run=/script';
  let id: number | undefined;
  await dc.launch({ kernel: guest.kernel, initrd, append }, async () => {
    const set = await dc.request('setFunctionBreakpoints', { breakpoints: [{ name: 'start_kernel' }] });
    id = (set as DebugProtocol.SetFunctionBreakpointsResponse['body']).breakpoints[0].id;
  });
  assert.deepEqual((await dc.stopped()).hitBreakpointIds, [id]);
  await dc.request('continue', { threadId: 1 });
  const crash = await dc.stopped();
  assert.deepEqual([crash.reason, crash.description], ['exception', 'Guest crash']);
  assert.match(crash.text ?? '', /^guest crash: Kernel panic - not syncing: sysrq triggered crash/);
  const info = await dc.request('exceptionInfo', { threadId: crash.threadId ?? 1 });
  assert.match(JSON.stringify(info), /sysrq_handle_crash/);
  await dc.request('continue', { threadId: 1 });
  await dc.event<DebugProtocol.OutputEvent['body']>('output', (o) => /^The guest resets after/.test(o.output));
  assert.deepEqual((await dc.stopped()).hitBreakpointIds, [id]);
  assert.equal((await dc.frames())[0].name, 'start_kernel');
  await dc.finish();
});
