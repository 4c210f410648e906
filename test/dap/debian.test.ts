import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import type { DebugProtocol } from '@vscode/debugprotocol';
import { debianGuest } from '../../scripts/debian-guest.mjs';
import type { VmbusView } from '../../debug-adapter/protocol.ts';
import { Client } from './harness.ts';

let guest: { kernel: string; initrd: string };
before(async () => {
  guest = await debianGuest();
});

const launch = () => ({ kernel: guest.kernel, initrd: guest.initrd, append: 'console=ttyAMA0' });
/** At a quiet moment host and guest agree on every channel; then the host does something that the guest has not seen yet. */
async function bothHalves(dc: Client): Promise<void> {
  const look = () => dc.request<VmbusView>('hyperstep/vmbus', {}, true);
  const differences = (view: VmbusView) =>
    view.channels.filter((c) => c.differences.length > 0).map((c) => [c.device, c.differences]);
  await dc.request('pause', { threadId: 1 });
  await dc.stopped();
  const view = await look();
  assert.equal(view.guestMissing, undefined);
  assert.deepEqual([differences(view), view.guestOnly, view.guest?.[0]], [[], [], 'state: CONNECTED']);
  const heartbeat = view.channels.find((c) => c.device === 'heartbeat') ?? assert.fail('no heartbeat');
  const said = heartbeat.guest?.join('\n') ?? '';
  assert.match(said, /^state: CHANNEL_OPENED_STATE$[\s\S]*^callback: vmbus_onchannel|hv_.*$/m);
  assert.match(said, /^target CPU: 0$[\s\S]*^inbound: read 0x[0-9a-f]+, write 0x[0-9a-f]+, interrupt mask 0, 12288 bytes$/m);
  assert.deepEqual(
    heartbeat.rings.map((r) => [r.name, r.size]),
    [
      ['to the host', 12288],
      ['to the guest', 12288],
    ],
  );
  assert.ok(
    heartbeat.recent.some((p) => p.direction === 'guest-to-host' && /^heartbeat \d+ answered$/.test(p.what)),
    JSON.stringify(heartbeat.recent),
  );

  const inside = async (variablesReference: number, name: string): Promise<DebugProtocol.Variable> => {
    const { variables } = await dc.request<DebugProtocol.VariablesResponse['body']>('variables', { variablesReference }, true);
    return variables.find((v) => v.name === name) ?? assert.fail(`no ${name}: ${variables.map((v) => v.name).join(' ')}`);
  };
  const [frame] = await dc.frames();
  const { scopes } = await dc.request<DebugProtocol.ScopesResponse['body']>('scopes', { frameId: frame.id }, true);
  let at: Pick<DebugProtocol.Variable, 'variablesReference'> =
    scopes.find((s) => s.name === 'Machine') ?? assert.fail('no Machine');
  for (const name of ['vmbus', 'channels', `[${heartbeat.relid}]`]) at = await inside(at.variablesReference, name);
  const target = await inside(at.variablesReference, 'targetVp');
  assert.deepEqual([target.value, target.evaluateName], ['0', `hv.vmbus.channels[${heartbeat.relid}].targetVp`]);
  const ring = await inside(at.variablesReference, 'toGuest');
  const mask = await inside(ring.variablesReference, 'InterruptMask');
  const set = (value: string) => ({ variablesReference: ring.variablesReference, name: 'InterruptMask', value });
  assert.equal((await dc.request<{ value: string }>('setVariable', set('hv.HvRegisterVpIndex + 1'), true)).value, '1');
  assert.deepEqual(differences(await look()), [], 'the ring is the same memory on both sides');
  const value = async (expression: string) =>
    (await dc.request<{ result: string }>('evaluate', { expression, context: 'repl', frameId: frame.id }, true)).result;
  assert.match(await value(`${mask.evaluateName} = 0`), /^0/);
  assert.match(
    await dc.refused('evaluate', { expression: `${target.evaluateName} = 7`, context: 'repl' }),
    /targetVp can be 0 to 0, not 7$/,
  );

  const keyboard = view.channels.find((c) => c.device === 'keyboard') ?? assert.fail('no keyboard');
  await dc.request('hyperstep/channel', { relid: keyboard.relid, action: 'rescind' });
  assert.deepEqual(differences(await look()), [
    [
      'keyboard',
      ['state: the host has it rescinded, the guest in CHANNEL_OPENED_STATE', 'rescinded by the host, not seen by the guest yet'],
    ],
  ]);
  await dc.request('continue', { threadId: 1 });
  const until = async (there: (v: VmbusView) => boolean): Promise<void> => {
    while (!there(await look()));
  };
  await until((v) => v.takenAway.length > 0);
  await dc.request('hyperstep/channel', { relid: keyboard.relid, action: 'offer' });
  await until((v) => v.channels.some((c) => c.device === 'keyboard' && c.state === 'open'));
}

/** Files' names and sizes are Debian's, not ours. */
const named = (text: string) => text.replace(/\+0x[0-9a-f]+/g, '+0x..');

test('breakpoints by kernel symbol with KASLR and no symbol file: before the first C function, and in a module that is loaded later', async (t) => {
  const dc = await Client.start(t);
  let set: DebugProtocol.SetFunctionBreakpointsResponse['body'] | undefined;
  await dc.launch(launch(), async () => {
    set = await dc.request('setFunctionBreakpoints', { breakpoints: [{ name: 'start_kernel' }, { name: 'vmbus_post_msg' }] });
  });
  assert.deepEqual(
    set?.breakpoints.map((b) => b.verified),
    [true, false],
    'the kernel is in memory; its modules are not',
  );
  const [early, late] = set?.breakpoints.map((b) => b.id) ?? [];
  const changed = await dc.event<DebugProtocol.BreakpointEvent['body']>('breakpoint', (b) => b.breakpoint.id === early);
  assert.ok(changed.breakpoint.verified && changed.breakpoint.instructionReference !== set?.breakpoints[0].instructionReference);
  const first = await dc.stopped();
  assert.deepEqual(first.hitBreakpointIds, [early]);
  assert.deepEqual(
    (await dc.frames())
      .map((f) => f.name)
      .slice(0, 2)
      .map(named),
    ['start_kernel', '__primary_switched+0x..'],
  );
  const found = await dc.event<DebugProtocol.OutputEvent['body']>('output', (o) => /^Linux \d/.test(o.output));
  assert.match(
    found.output,
    /^Linux \d+\.\d+\.\S+, 4 KiB pages, \d{5,6} symbols from kallsyms, BTF types, _text at 0xffff[0-9a-f]{12}, KASLR offset 0x[0-9a-f]+ /,
  );
  await dc.request('continue', { threadId: 1 });
  const second = await dc.stopped();
  assert.deepEqual(second.hitBreakpointIds, [late]);
  const names = (await dc.frames()).map((f) => named(f.name));
  assert.match(names[0], /^vmbus_post_msg( \[hv_vmbus\])?$/);
  assert.ok(
    names.some((n) => n.startsWith('vmbus_negotiate_version+')) && names.some((n) => n.startsWith('hv_acpi_init+')),
    names.join('\n'),
  );
  assert.equal(new Set(names).size, names.length, `no frame twice:\n${names.join('\n')}`);
  await dc.finish();
});

test('a hypercall stop names the caller behind the wrappers, and the guest goes on to its own power-off', async (t) => {
  const dc = await Client.start(t);
  await dc.launch({ ...launch(), stopOnHypercalls: ['0x5c'] });
  const stop = await dc.stopped();
  assert.match(stop.text ?? '', /^HvCallPostMessage from vmbus_post_msg\+0x[0-9a-f]+/);
  const info = await dc.request<DebugProtocol.ExceptionInfoResponse['body']>('exceptionInfo', { threadId: 1 });
  assert.match(info.description ?? '', /in {2}ConnectionId +4\n/);
  // The answer's interrupt is pending as soon as the call returns: stepping over goes over its handler, too.
  const top = async () => (await dc.frames())[0].name;
  assert.match(await top(), /^hv_do_hypercall\+/);
  for (let steps = 0; (await top()).startsWith('hv_do_hypercall+'); steps++) {
    assert.ok(steps < 10, await top());
    await dc.request('next', { threadId: 1, granularity: 'instruction' });
    assert.equal((await dc.stopped()).reason, 'step');
  }
  assert.match(await top(), /^hv_post_message\+/);
  const features = await dc.request<{ words: { host: string; guest?: string; field: string }[] }>('hyperstep/features');
  for (const w of features.words) assert.equal(w.guest, w.host, w.field);
  const { modules } = await dc.request<DebugProtocol.ModulesResponse['body']>('modules', {});
  assert.equal(modules[0].name, 'kernel');
  await dc.request('hyperstep/setHypercallBreakpoints', {
    breakpoints: [{ call: 'HvCallSignalEvent', phase: 'entry', logMessage: 'signal {ConnectionId}' }],
  });
  // The stop that launch.json asked for stays: it is passed over once per message.
  for (;;) {
    await dc.request('continue', { threadId: 1 });
    if ((await dc.either('stopped', 'terminated')) === 'terminated') break;
  }
  await dc.event<DebugProtocol.OutputEvent['body']>('output', (o) => /^signal 0x/.test(o.output));
  assert.match(dc.console, /Vmbus version:5\.3/);
  assert.match(dc.console, /reboot: Power down/);
  await dc.finish();
});

test('progress is reported from loading to the first stop, and cancelling it pauses the guest', async (t) => {
  const dc = await Client.start(t);
  await dc.launch(
    launch(),
    async () => {
      await dc.request('setFunctionBreakpoints', { breakpoints: [{ name: 'never_called' }] });
    },
    { supportsProgressReporting: true },
  );
  const { progressId, cancellable } = await dc.event<DebugProtocol.ProgressStartEvent['body']>('progressStart');
  assert.equal(cancellable, true);
  const { message } = await dc.event<DebugProtocol.ProgressUpdateEvent['body']>('progressUpdate');
  assert.match(message ?? '', /^\d+ M instructions, \d+\.\d s of guest time$/);
  await dc.request('cancel', { progressId });
  assert.equal((await dc.stopped()).reason, 'pause');
  assert.equal((await dc.event<DebugProtocol.ProgressEndEvent['body']>('progressEnd')).progressId, progressId);
  await dc.finish();
});

test('pause while it boots; exception frames; the console takes input; VMBus devices come while it runs', async (t) => {
  const dc = await Client.start(t);
  const until = async (text: RegExp) => {
    while (!text.test(dc.console)) await dc.event('hyperstep/console');
  };
  await dc.launch({ ...launch(), append: 'console=ttyAMA0 rdinit=/bin/sh' }, async () => {
    await dc.request('setFunctionBreakpoints', { breakpoints: [{ name: 'arch_timer_handler_virt', hitCondition: '20' }] });
  });
  await dc.stopped();
  const names = (await dc.frames()).map((f) => f.name);
  const boundary = names.findIndex((n) => n.endsWith('(exception taken here)'));
  assert.ok(boundary > 0, names.join('\n'));
  assert.match(names[boundary - 1], /^el1h_64_irq\+/);
  assert.ok(names.length > boundary + 1, 'the walk goes on behind the exception');
  await dc.request('setFunctionBreakpoints', { breakpoints: [] });
  await dc.request('continue', { threadId: 1 });
  await dc.request('pause', { threadId: 1 });
  assert.equal((await dc.stopped()).reason, 'pause');
  await dc.request('continue', { threadId: 1 });
  await until(/^\/ # /m);
  await dc.request('hyperstep/consoleInput', {
    data: 'while read m; do busybox insmod /lib/modules/$m.ko; done < /lib/modules/order; echo $((6*7))\n',
  });
  await until(/^42\r?$/m);
  const vmbus = await dc.request<{ state: string; version: string; channels: { device: string; state: string }[] }>(
    'hyperstep/vmbus',
  );
  assert.equal(vmbus.version, '5.3', dc.console.slice(-1500));
  assert.ok(
    vmbus.channels.some((c) => c.device === 'shutdown' && c.state === 'open'),
    JSON.stringify(vmbus.channels.map((c) => [c.device, c.state])),
  );
  await bothHalves(dc);
  // The guest's own answer, symbol by symbol: kernel and module.
  await dc.request('hyperstep/consoleInput', {
    data: 'busybox mount -t proc p /proc; busybox grep -E " (start_kernel|hv_do_hypercall|vmbus_post_msg|el1h_64_irq)( |$|\\s)" /proc/kallsyms; echo END$((1+1))\n',
  });
  await until(/^END2\r?$/m);
  const told = [...dc.console.matchAll(/^([0-9a-f]{16}) [tT] (\w+)/gm)].map(([, address, name]) => `0x${address} <${name}`);
  assert.equal(told.length, 4, dc.console.slice(-800));
  for (const text of told) {
    const { result } = await dc.request<{ result: string }>('evaluate', { expression: text.split('<')[1], context: 'watch' });
    assert.ok(result.startsWith(text), `${result} is ${text}`);
  }
  await dc.request('evaluate', { expression: 'key a', context: 'repl' });
  await dc.request('hyperstep/consoleInput', { data: 'busybox poweroff -f\n' });
  await dc.event('terminated');
  await dc.finish();
});
