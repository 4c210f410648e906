import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  choice,
  Field,
  field,
  flags,
  Group,
  held,
  itemAt,
  itemsIn,
  List,
  listOf,
  type Node,
  nodeAt,
  pathOf,
  setAt,
  type Tree,
  uint,
} from '../../emulator/base/inspect.ts';
import { type ChannelAction, DEFAULTS, type Inspect, type Machine } from '../../emulator/index.ts';
import { createMachine } from '../../emulator/load.ts';
import { partitionTree } from '../../emulator/hyperv/inspect.ts';
import { DEVICES } from '../../emulator/vmbus/devices/index.ts';
import { emptyDisk } from './vmbus/fake-disk.ts';
import { FakeDriver, icNegotiated } from './vmbus/fake-driver.ts';

const HERE = 0x14000000;
const machineOf = (cpus = 2): Machine =>
  createMachine({
    ...DEFAULTS,
    ...{ boot: 'device-tree', load: 0x8_0000, kernel: new Uint8Array(Uint32Array.of(HERE, HERE).buffer), kernelName: 'words' },
    ...{ memory: 64, cpus, disks: [emptyDisk()], network: { mode: 'internal' } },
  });

/** Every field of a tree that can be changed, by its path. Of long lists the first and the last elements. */
function* fieldsIn(root: Node, path: string[] = []): Generator<{ path: string[]; field: Field }> {
  const found = nodeAt(root, path);
  assert.ok(typeof found !== 'string', String(found));
  const { node } = found;
  if (node instanceof Field && node.set) yield { path, field: node };
  const list = listOf(node);
  const items = list && list.count > 8 ? [...itemsIn(node, 0, 2), ...itemsIn(node, list.count - 1, 1)] : itemsIn(node);
  for (const item of items) if (item.editable || item.opens) yield* fieldsIn(root, [...path, item.name]);
}

test('a subtree is declared once: what it says, what it can be set to, and what it answers to anything else', () => {
  const state = { count: 3, mode: 'off', word: 0x5n, on: true };
  let told = 0;
  const tree = {
    count: held(state, 'count', uint(8), () => told++),
    mode: held(state, 'mode', choice('off', 'on')),
    word: held(state, 'word', flags(8, { low: 0, high: 7 })),
    on: held(state, 'on', uint(1)),
    fixed: 7,
    gone: undefined,
    odd: field(
      uint(8, { step: 4n }),
      () => 4,
      (v) => (v === 8n ? 'not that one' : undefined),
    ),
    list: new List(3, (n) => n * n, { first: 10, summary: () => 'squares' }),
    group: new Group(
      () => 'two things',
      () => ({ a: 1, b: () => ({ c: 'deep' }) }),
    ),
  };
  assert.deepEqual(
    itemsIn(tree).map((i) => [i.name, i.value, i.words.join(), i.editable, i.opens, i.count]),
    [
      ['count', 3, '', true, false, undefined],
      ['mode', 'off', '', true, false, undefined],
      ['word', 5n, 'low', true, true, undefined],
      ['on', true, '', true, false, undefined],
      ['fixed', 7, '', false, false, undefined],
      ['odd', 4, '', true, false, undefined],
      ['list', undefined, 'squares', false, true, 3],
      ['group', undefined, 'two things', false, true, undefined],
    ],
  );
  const set = (path: string, value: bigint | string) => setAt(tree, pathOf(path) ?? [], value);
  assert.deepEqual(
    [set('count', 255n), set('mode', 'on'), set('word.high', 1n), set('word.low', 'false'), set('on', 0n), set('odd', 12n)],
    [undefined, undefined, undefined, undefined, undefined, undefined],
  );
  assert.deepEqual([state, told], [{ count: 255, mode: 'on', word: 0x84n, on: false }, 1]);
  assert.deepEqual(
    [
      ...[
        set('count', 256n),
        set('count', -1n),
        set('mode', 'up'),
        set('mode', 2n),
        set('word', 256n),
        set('odd', 6n),
        set('odd', 8n),
      ],
      ...[set('fixed', 1n), set('list', 1n), set('list[13]', 1n), set('nothing', 1n), set('group.b.d', 1n), set('count.x', 1n)],
    ],
    [
      'count can be 0 to 255, not 256',
      'count can be 0 to 255, not -1',
      'mode can be off, on, not up',
      'mode can be off, on, not 2',
      'word can be 0x0 to 0xff, not 0x100',
      'odd can be 0 to 255, a multiple of 4, not 6',
      'odd: not that one',
      'fixed cannot be changed',
      'list cannot be changed',
      'list has elements 10 to 12, not 13',
      'there is no nothing in the machine',
      'there is no d in group.b',
      'there is no x in count',
    ],
  );
  assert.deepEqual([state, told], [{ count: 255, mode: 'on', word: 0x84n, on: false }, 1]);
  assert.deepEqual(
    itemsIn(tree.list, 1, 1).map((i) => [i.name, i.value]),
    [['[11]', 121]],
  );
  assert.deepEqual(['a.b[2].c', 'a', '', 'a b', 'a[', '[1]', 'a..b'].map(pathOf), [
    ['a', 'b', '[2]', 'c'],
    ['a'],
    [],
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
});

test('every part of a machine is in its tree, and every field that can be changed takes what it holds and refuses what does not fit', () => {
  const machine = machineOf();
  const parts = Object.keys(machine.tree());
  assert.deepEqual(
    Object.keys((machine.inspect().state ?? {}) as Inspect).filter(
      (part) => !['clock', 'loop', 'timer'].includes(part) && !parts.includes(part),
    ),
    [],
  );
  const seen = [...fieldsIn(machine.tree())];
  assert.ok(seen.length > 400, `${seen.length} fields`);
  const before = machine.stateHash();
  for (const { path, field } of seen) {
    const { type } = field;
    for (const value of [type.max + 1n, type.min - 1n, 'no such name']) {
      const refused = machine.edit(path, value);
      assert.match(refused ?? 'taken', / can be .*, not /, path.join('.'));
    }
  }
  assert.equal(machine.stateHash(), before);
  // Registers that are cleared by writing ones, or that have fixed bits, need not hold what they were given.
  for (const { path, field } of seen) {
    const { number } = field;
    if (number !== undefined) machine.edit(path, number);
    const now = itemAt(machine.tree(), path);
    assert.ok(typeof now !== 'string' && now.editable, path.join('.'));
  }
});

test('edits do what the guest would have done, are inputs that the log keeps, and go with snapshots', () => {
  const machine = machineOf();
  const edit = (path: string, value: bigint | string) => machine.edit(pathOf(path) ?? [], value);
  const look = (path: string) => {
    const item = itemAt(machine.tree(), pathOf(path) ?? []);
    assert.ok(typeof item !== 'string', String(item));
    return item.value ?? item.words.join();
  };
  const fresh = machine.snapshot();
  const freshHash = machine.stateHash();
  const edits: [string, bigint | string][] = [
    ['gic.ctlr.enableGroup1', 1n],
    ['gic.vps[1].cpuInterface.ICC_PMR_EL1', 0xf8n],
    ['gic.vps[1].cpuInterface.ICC_IGRPEN1_EL1', 1n],
    ['gic.vps[1].interrupts[18].group', 1n],
    ['gic.vps[1].interrupts[18].priority', 0xa0n],
    ['gic.vps[1].interrupts[18].enabled', 'true'],
    ['gic.vps[1].interrupts[18].trigger', 'edge'],
    ['gic.vps[1].interrupts[18].pending', 1n],
    ['hyperv.vps[0].synic.sints[2].vector', 18n],
    ['hyperv.vps[0].synic.sints[2].masked', 'false'],
    ['hyperv.vps[1].stimers[0].config', (0x1_2009n & ~0x1000n) | (2n << 16n)],
    ['hyperv.vps[1].stimers[0].count', 0x10_0000_0000n],
    ['hyperv.features.features.AccessSynicRegs', 'false'],
    ['timers.vps[0].virtual.CNTV_CVAL_EL0', 1000n],
    ['timers.vps[0].virtual.CNTV_CTL_EL0.ENABLE', 1n],
    ['com1.registers.IMSC.RX', 1n],
    ['rtc.registers.MR', 0x1234n],
    ['pmu.vps[0].PMCNTENSET_EL0.cycles', 1n],
    ['vmbus.devices.keyboard.leds.capsLock', 1n],
    ['vmbus.devices.network.link', 'down'],
  ];
  for (const [path, value] of edits) assert.equal(edit(path, value), undefined, path);
  assert.deepEqual(
    [
      look('gic.vps[1].cpuInterface.signalled'),
      look('gic.vps[1].interrupts[18]'),
      look('hyperv.vps[0].synic.sints[2]'),
      look('hyperv.vps[1].stimers[0].armed'),
      machine.readHypervRegister(0, 'HvRegisterPrivilegesAndFeaturesInfo') as bigint & 4n,
      look('timers.vps[0].virtual.CNTV_CTL_EL0'),
      look('com1.registers.IMSC'),
      machine.inspect().inputs,
    ],
    [
      'INTID 18 (vmbus)',
      'INTID 18 (vmbus), enabled, pending, priority 0xa0',
      18n,
      true,
      (machine.readHypervRegister(0, 'HvRegisterPrivilegesAndFeaturesInfo') ?? 4n) & ~4n,
      1n,
      16n,
      edits.length,
    ],
  );
  assert.match(edit('gic.vps[0].interrupts[18].priority', 0x21n) ?? '', /a multiple of 8/);
  assert.equal(edit('hyperv.vps[0].stimers[0].armed', 1n), 'hyperv.vps[0].stimers[0].armed cannot be changed');
  const hash = machine.stateHash();
  machine.restore(fresh);
  assert.equal(machine.stateHash(), freshHash);
  for (const [path, value] of edits) edit(path, value);
  assert.equal(machine.stateHash(), hash);
});

test('every device of VMBus has a subtree', () => {
  const d = new FakeDriver({ disks: [emptyDisk()], network: { mode: 'internal' }, sockets: { mode: 'internal' } });
  d.connect();
  const found = nodeAt(d.vmbus.inspect(), ['devices']);
  assert.ok(typeof found !== 'string');
  const named = itemsIn(found.node).map(({ name }) => name);
  assert.deepEqual(named, Object.keys(DEVICES));
  const empty = named.filter((name) => itemsIn((found.node as Tree)[name] as Node).length === 0);
  assert.deepEqual(empty, []);
});

test('an open channel: its rings with what waits in them, GPADL, message slot and queue, from both ends', () => {
  const d = new FakeDriver({ vps: 2 });
  d.connect();
  const relid = d.relidOf('heartbeat');
  const c = d.open(relid);
  d.advance(1_000_000);
  const look = (...path: string[]) => {
    const item = itemAt(d.vmbus.inspect(), path);
    assert.ok(typeof item !== 'string', String(item));
    return item.value ?? item.words.join();
  };
  const set = (value: bigint | string, ...path: string[]) => setAt(d.vmbus.inspect(), path, value);
  const channel = ['channels', `[${relid}]`];
  const toGuest = [...channel, 'toGuest'];
  assert.deepEqual(
    [look(...channel), look(...toGuest, 'used'), look(...toGuest, 'packets', '[0]'), look(...toGuest, 'packets', '[0]', 'type')],
    ['heartbeat, open', c.in.used, 'negotiate', 'in-band'],
  );
  assert.match(String(look('gpadls', '[0]')), new RegExp(`^0x[0-9a-f]+ of channel ${relid}, 8 pages$`));
  // Indices are in guest memory: what is set there is what the guest sees, and the other way round.
  assert.equal(set(8n, ...toGuest, 'ReadIndex'), undefined);
  assert.deepEqual([c.in.header(1), look(...toGuest, 'ReadIndex')], [8, 8]);
  assert.match(set(4n, ...toGuest, 'ReadIndex') ?? '', /ReadIndex can be 0x0 to 0x2ff8, a multiple of 8, not 0x4$/);
  assert.match(set(BigInt(c.in.size), ...toGuest, 'WriteIndex') ?? '', /can be/);
  c.in.setHeader(1, 12);
  assert.equal(look(...toGuest, 'fault'), 'read index 0xc of a ring of 0x3000 bytes');
  c.in.setHeader(1, 0);
  assert.deepEqual(
    [set(1n, ...channel, 'targetVp'), set(2n, ...channel, 'targetVp'), d.channelInfo(relid).targetVp],
    [undefined, `channels[${relid}].targetVp can be 0 to 1, not 2`, 1],
  );
  const question = c.in.take();
  assert.ok(question);
  c.out.put(6, question.transactionId, icNegotiated(question, [3, 0]));
  assert.deepEqual(d.channelInfo(relid).outgoing?.packets, [{ at: 0, bytes: c.out.used, what: 'negotiate answered' }]);
  assert.deepEqual([d.vmbus.act(relid, 'signal-host'), c.out.used, d.channelInfo(relid).packetsFromGuest], [true, 0, 1]);
  // Messages that the guest has not taken: the first in its slot, the others behind it.
  d.post(FakeDriver.message(3), d.connection, false);
  assert.equal(d.vmbus.rescind('keyboard'), true);
  const hyperv = partitionTree(d.partition);
  const synic = (...path: string[]) => itemAt(hyperv, ['vps', '[0]', 'synic', ...path]);
  const [slot, queue] = [synic('slots', '[2]'), synic('queues', '[2]', '[0]')];
  assert.deepEqual(
    [slot, queue].map((item) => (typeof item === 'string' ? item : item.words.join())),
    ['AllOffersDelivered, 1 waiting', 'RescindChannelOffer'],
  );
  assert.equal(setAt(hyperv, ['vps', '[0]', 'synic', 'slots', '[2]', 'MessageType'], 0n), undefined);
  assert.equal(d.slot(0).type, 0);
});

test('a channel is taken away, given back and signalled from the host, each only when that can be', () => {
  const d = new FakeDriver();
  d.connect();
  const relid = d.relidOf('keyboard');
  const act = (action: ChannelAction) => d.vmbus.act(relid, action);
  assert.deepEqual(
    [act('signal-guest'), act('signal-host'), act('offer'), d.vmbus.act(99, 'rescind')],
    [false, false, false, false],
  );
  d.open(relid);
  d.takeFlags();
  assert.deepEqual([act('signal-guest'), d.takeFlags(), act('signal-host')], [true, [relid], true]);
  assert.deepEqual([act('rescind'), act('rescind'), act('offer'), d.vmbus.info().takenAway], [true, false, false, []]);
  d.pump();
  d.post(FakeDriver.message(13, relid));
  assert.deepEqual(d.vmbus.info().takenAway, [{ relid, device: 'keyboard' }]);
  assert.deepEqual([act('offer'), act('offer'), d.vmbus.info().takenAway], [true, false, []]);
});

test('whatever is in a ring, either way, is words', () => {
  const devices = Object.keys(DEVICES).filter((name) => name !== 'socket');
  const nvme = { ...emptyDisk(), name: 'nvme', bus: 'nvme' as const };
  fc.assert(
    fc.property(
      ...[fc.constantFrom(...devices), fc.boolean(), fc.uint8Array({ maxLength: 200 }), fc.integer({ min: 0, max: 12 })],
      ...[fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 32 })],
      (name, toHost, bytes, type, head, ranges) => {
        const d = new FakeDriver({ disks: [emptyDisk(), nvme], network: { mode: 'internal' } });
        d.connect();
        const c = d.open(d.relidOf(name));
        const payload = Uint8Array.from(bytes);
        // Small numbers where types and sizes are, so that more than refusals is seen.
        head.forEach((v, i) => {
          if (4 * i < payload.length) payload[4 * i] = v;
        });
        (toHost ? c.out : c.in).put(type, 1n, payload, 1, ranges.slice(0, ranges.length & ~7));
        const info = d.channelInfo(c.relid);
        const [packet] = (toHost ? info.outgoing : info.incoming)?.packets ?? [];
        assert.ok(packet?.what, name);
      },
    ),
    { numRuns: 300 },
  );
});
