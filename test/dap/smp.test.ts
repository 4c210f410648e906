/** VPs as threads: their states, registers and stacks, breakpoints by whichever VP comes there, steps of one VP alone. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DebugProtocol } from '@vscode/debugprotocol';
import { debianGuest } from '../../scripts/debian-guest.mjs';
import { Client, EMBEDDED } from './harness.ts';

type Threads = DebugProtocol.ThreadsResponse['body'];

const names = async (dc: Client): Promise<string[]> => {
  const { threads } = await dc.request<Threads>('threads', {}, true);
  assert.deepEqual(
    threads.map((t) => t.id),
    threads.map((_, i) => i + 1),
  );
  return threads.map((t) => t.name);
};

/** `$name` as a thread's VP has it. */
async function register(dc: Client, threadId: number, name: string): Promise<bigint> {
  const [frame] = await dc.frames(threadId);
  const { result } = await dc.request<{ result: string }>(
    'evaluate',
    { expression: `$${name}`, context: 'watch', frameId: frame.id },
    true,
  );
  return BigInt(result.split(' ')[0]);
}

/** Pauses and goes on until `fits`: what the guest does meanwhile is its own affair. */
async function pauseUntil(dc: Client, fits: () => Promise<boolean>): Promise<void> {
  for (;;) {
    await dc.request('pause', { threadId: 1 });
    assert.equal((await dc.stopped()).reason, 'pause');
    if (await fits()) return;
    await dc.request('continue', { threadId: 1 });
  }
}

test('the VPs of the embedded guest: off, started, each with its own registers and stack, stepped one at a time', async (t) => {
  const dc = await Client.start(t);
  await dc.launch({ kernel: EMBEDDED, memory: 64, cpus: 4, append: 'spin', stopOnEntry: true });
  await dc.stopped();
  assert.deepEqual(
    (await names(dc)).map((n) => n.replace(/EL1, .*\)/, 'EL1, ..)')),
    ['VP 0 (EL1, ..)', 'VP 1 (off)', 'VP 2 (off)', 'VP 3 (off)'],
  );
  assert.deepEqual(await dc.frames(3), []);
  assert.match(await dc.refused('stepIn', { threadId: 3 }), /^VP 2 is off/);

  // Whichever VP comes there: the guest starts one after the other. At the entry: what follows the prologue is in its loop.
  await dc.request('setFunctionBreakpoints', { breakpoints: [{ name: 'secondary_spin+0x0' }] });
  for (const vp of [1, 2, 3]) {
    await dc.request('continue', { threadId: 1 });
    const stop = await dc.stopped();
    assert.deepEqual([stop.reason, stop.threadId, stop.allThreadsStopped], ['function breakpoint', vp + 1, true]);
    assert.deepEqual(
      (await dc.frames(vp + 1)).slice(0, 2).map((f) => f.name.replace(/\+.*/, '')),
      ['secondary_spin', 'secondary_main'],
    );
    assert.equal(await register(dc, vp + 1, 'x0'), BigInt(vp));
    assert.equal((await register(dc, vp + 1, 'MPIDR_EL1')) & 0xffn, BigInt(vp));
  }
  await dc.request('setFunctionBreakpoints', { breakpoints: [] });
  await dc.request('continue', { threadId: 1 });
  await pauseUntil(dc, async () => (await names(dc)).every((n) => n.includes('spin')));
  const all = [1, 2, 3, 4];
  assert.deepEqual(await Promise.all(all.map(async (id) => (await dc.frames(id))[0].name.replace(/\+.*/, ''))), [
    'spin',
    'secondary_spin',
    'secondary_spin',
    'secondary_spin',
  ]);
  assert.equal(new Set(await Promise.all(all.map((id) => register(dc, id, 'sp')))).size, 4);

  // A step is one VP's; the others stand still. Four steps are a whole round of the loop.
  const pcs = () => Promise.all(all.map((id) => register(dc, id, 'pc')));
  const counts = () =>
    Promise.all(
      [1, 2, 3].map(async (vp) => {
        const { result } = await dc.request<{ result: string }>(
          'evaluate',
          { expression: `secondary_spins[${vp}]`, context: 'watch' },
          true,
        );
        return BigInt(result.split(' ')[0]);
      }),
    );
  const before = await pcs();
  const spins = await counts();
  const seen = new Set<bigint>();
  for (let i = 0; i < 8; i++) {
    await dc.request('stepIn', { threadId: 3, granularity: 'instruction', singleThread: true });
    const stop = await dc.stopped();
    assert.deepEqual([stop.reason, stop.threadId], ['step', 3]);
    const now = await pcs();
    seen.add(now[2]);
    assert.deepEqual([now[0], now[1], now[3]], [before[0], before[1], before[3]]);
  }
  assert.ok(seen.size >= 3, 'the VP goes round its loop');
  const after = await counts();
  assert.deepEqual([after[0], after[2]], [spins[0], spins[2]]);
  assert.ok(after[1] > spins[1]);
  // Without, the others go on as fast as it does.
  for (let i = 0; i < 8; i++) {
    await dc.request('stepIn', { threadId: 3, granularity: 'instruction' });
    assert.deepEqual((await dc.stopped()).threadId, 3);
  }
  const both = await counts();
  assert.ok(both[0] > after[0] && both[2] > after[2] && both[2] - after[2] <= 8n, `${both}`);

  // Written in one VP, unchanged in the others.
  const [frame] = await dc.frames(4);
  await dc.request('setExpression', { expression: '$x20', value: '0x77', frameId: frame.id });
  assert.deepEqual(
    (await Promise.all(all.map((id) => register(dc, id, 'x20')))).map((v) => v === 0x77n),
    [false, false, false, true],
  );
  await dc.finish();
});

test("Debian with 4 VPs: a breakpoint in the idle task's way is hit by several VPs, and idle VPs are shown as waiting", async (t) => {
  const dc = await Client.start(t);
  const { kernel, initrd } = await debianGuest();
  await dc.launch({ kernel, initrd, cpus: 4, append: 'console=ttyAMA0 rdinit=/bin/sh' });
  const until = async (text: RegExp) => {
    while (!text.test(dc.console)) await dc.event('hyperstep/console');
  };
  await until(/^\/ # /m);
  await pauseUntil(dc, async () => (await names(dc)).filter((n) => /^VP \d \(waiting, EL1, /.test(n)).length >= 3);
  // Where an idle VP waits, and from where: the stack goes down to the idle task of its own VP.
  const idle = await Promise.all([1, 2, 3, 4].map(async (id) => (await dc.frames(id)).map((f) => f.name.replace(/\+.*/, ''))));
  assert.ok(idle.filter((f) => f.includes('do_idle')).length >= 3, JSON.stringify(idle));

  await dc.request('setFunctionBreakpoints', { breakpoints: [{ name: 'generic_handle_domain_irq' }] });
  const hit = new Set<number>();
  for (let i = 0; i < 60 && hit.size < 3; i++) {
    await dc.request('continue', { threadId: 1 });
    const stop = await dc.stopped();
    assert.equal(stop.reason, 'function breakpoint');
    const id = stop.threadId ?? assert.fail('no thread');
    hit.add(id);
    assert.match((await dc.frames(id))[0].name, /^generic_handle_domain_irq/);
    if (i === 0)
      await dc.request('hyperstep/consoleInput', {
        data: 'busybox yes > /dev/null & busybox yes > /dev/null & busybox yes > /dev/null &\n',
      });
  }
  assert.ok(hit.size >= 3, `only threads ${[...hit]} came there`);
  await dc.finish();
});
