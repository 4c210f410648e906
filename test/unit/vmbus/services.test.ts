/** Integration services that do something for the host: data exchange, backup, file copy, and requests of the older ones. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ConfigError } from '../../../emulator/config.ts';
import { assign, capture } from '../../../emulator/snapshot.ts';
import { viewOf } from '../../../emulator/base/struct.ts';
import { FakeDriver, type GuestPacket, ic, icAnswer, icNegotiated, type OpenedChannel } from './fake-driver.ts';

const MS = 1_000_000;
const S = 1_000_000_000;
const FAIL = 0x8000_4005;
const NO_MORE = 0x8007_0103;

const VERSION: Record<string, [number, number]> = {
  heartbeat: [3, 0],
  shutdown: [3, 2],
  timesync: [4, 0],
  kvp: [4, 0],
  vss: [5, 0],
  fcopy: [1, 1],
};

/** A guest whose service `device` has agreed on a version. */
function ready(device: string, pages = 4, d = new FakeDriver()): { d: FakeDriver; c: OpenedChannel } {
  if (d.offers.size === 0) d.connect();
  const c = d.open(d.relidOf(device), pages);
  d.advance(MS);
  const question = c.in.take();
  if (!question) throw new Error('no negotiation');
  d.send(c, icNegotiated(question, VERSION[device]), question.transactionId);
  return { d, c };
}

/** Answers a request as Linux does: in its own buffer, with a status and what `edit` does to the body. */
function answer(
  { d, c }: { d: FakeDriver; c: OpenedChannel },
  p: GuestPacket,
  status = 0,
  edit?: (body: DataView) => void,
): void {
  const out = icAnswer(p, edit);
  viewOf(out).setUint32(20, status, true);
  d.send(c, out, p.transactionId);
}

const take = (c: OpenedChannel): GuestPacket => {
  const p = c.in.take();
  if (!p) throw new Error('the host has sent nothing');
  return p;
};

/** What the host said came of its requests. */
const reports = (d: FakeDriver): string[] =>
  d.events.flatMap((e) => (e.kind === 'service' ? [`${e.service} ${e.ok ? 'ok' : 'failed'}: ${e.message}`] : []));

const text = (v: DataView, at: number, length = 2048): string => {
  let out = '';
  for (let i = 0; i < length; i += 2) {
    const c = v.getUint16(at + i, true);
    if (c === 0) break;
    out += String.fromCharCode(c);
  }
  return out;
};
const setText = (v: DataView, at: number, s: string): void => {
  for (let i = 0; i <= s.length; i++) v.setUint16(at + 2 * i, i < s.length ? s.charCodeAt(i) : 0, true);
};

// --- data exchange ---------------------------------------------------------------------------------------------------------------

const KEY = 16;
const VALUE = 528;
const POOLS = ['external', 'guest', 'auto', 'auto-external', 'auto-internal'];

/** The daemon and its pools. Answers what waits, and what comes of that; the requests, in words. */
function daemon(o: { d: FakeDriver; c: OpenedChannel }, pools: Map<string, string>[], most = 100): string[] {
  const seen: string[] = [];
  for (let p = o.c.in.take(); p && seen.length < most; p = o.c.in.take()) {
    const { body, size } = ic(p);
    const [operation, pool] = [body.getUint8(0), body.getUint8(1)];
    const items = pools[pool];
    if (operation === 0 || operation === 1) {
      const [type, keySize, valueSize] = [0, 4, 8].map((at) => body.getUint32(4 + at, true));
      const key = text(body, KEY, keySize);
      assert.equal(keySize, 2 * (key.length + 1));
      const value =
        type === 1
          ? text(body, VALUE, valueSize)
          : type === 4
            ? String(body.getUint32(VALUE, true))
            : String(body.getBigUint64(VALUE, true));
      seen.push(operation === 0 ? `get ${POOLS[pool]} ${key}` : `set ${POOLS[pool]} ${key}=${value} (${type}, ${valueSize})`);
      if (operation === 1) items.set(key, value);
      const found = items.get(key);
      answer(o, p, found === undefined ? NO_MORE : 0, (b) => {
        if (operation === 1 || found === undefined) return;
        setText(b, VALUE, found);
        b.setUint32(4, 1, true);
        b.setUint32(12, 2 * (found.length + 1), true);
      });
    } else if (operation === 2) {
      const key = text(body, 8, body.getUint32(4, true));
      seen.push(`delete ${POOLS[pool]} ${key}`);
      answer(o, p, items.delete(key) ? 0 : NO_MORE);
    } else if (operation === 3) {
      const index = body.getUint32(4, true);
      assert.equal(size, 2580);
      seen.push(`enumerate ${POOLS[pool]} ${index}`);
      const item = [...items][index];
      answer(o, p, item ? 0 : NO_MORE, (b) => {
        if (!item) return;
        b.setUint32(8, 1, true);
        b.setUint32(12, 2 * (item[0].length + 1), true);
        b.setUint32(16, 2 * (item[1].length + 1), true);
        setText(b, 20, item[0]);
        setText(b, 20 + 512, item[1]);
      });
    } else {
      assert.equal(size, 7428);
      seen.push(
        `${operation === 4 ? 'get' : 'set'} IP ${text(body, 2, 256)}: ${[260, 2308, 4356, 5380].map((at) => text(body, at)).join(' ')}, ${body.getUint8(258)}, ${body.getUint8(259)}`,
      );
      answer(o, p, text(body, 2, 256).startsWith('none') ? FAIL : 0, (b) => {
        if (operation === 4)
          for (const [at, s] of [
            [260, '10.0.0.5;fe80::1'],
            [2308, '255.0.0.0;/64'],
            [4356, '10.0.0.1'],
            [5380, '9.9.9.9'],
          ] as const)
            setText(b, at, s);
      });
    }
  }
  return seen;
}

const emptyPools = (): Map<string, string>[] => POOLS.map(() => new Map());

test("data exchange: the guest gets the host's own items, and is asked for its own until there are no more; again each minute", () => {
  const o = ready('kvp');
  const pools = emptyPools();
  for (const [key, value] of [
    ['OSName', 'Test Linux'],
    ['NetworkAddressIPv4', '10.0.0.5'],
  ])
    pools[2].set(key, value);
  const round = ['enumerate auto 0', 'enumerate auto 1', 'enumerate auto 2', 'enumerate guest 0'];
  assert.deepEqual(daemon(o, pools), [
    'set auto-external HostName=hyperstep (1, 20)',
    'set auto-external VirtualMachineName=hyperstep (1, 20)',
    ...round,
  ]);
  pools[1].set('mine', 'from the guest');
  pools[2].set('OSName', 'Another');
  assert.deepEqual(daemon(o, pools), []);
  o.d.advance(60 * S);
  assert.deepEqual(daemon(o, pools), [...round, 'enumerate guest 1']);
  assert.deepEqual(o.d.channelInfo(o.c.relid).details, {
    phase: 'ready',
    framework: '3.0',
    version: '4.0',
    pools: {
      guest: { mine: 'from the guest' },
      auto: { OSName: 'Another', NetworkAddressIPv4: '10.0.0.5' },
      'auto-external': { HostName: 'hyperstep', VirtualMachineName: 'hyperstep' },
    },
  });
  assert.deepEqual(reports(o.d), []);
});

test('data exchange: text, dwords and qwords are set, got and deleted, one request at a time', () => {
  const o = ready('kvp');
  const { kvp } = o.d.vmbus.services;
  const pools = emptyPools();
  daemon(o, pools);
  for (const value of ['größer', 77, 2n ** 63n]) assert.equal(kvp.set('external', `a ${typeof value}`, value), true);
  assert.deepEqual(
    [
      kvp.get('external', 'a string'),
      kvp.get('external', 'none'),
      kvp.delete('external', 'a number'),
      kvp.delete('guest', 'none'),
    ],
    [true, true, true, true],
  );
  // The next one is not sent before the answer.
  assert.equal(o.c.in.used, 16 + 2608 + 8);
  assert.deepEqual(daemon(o, pools), [
    'set external a string=größer (1, 14)',
    'set external a number=77 (4, 4)',
    'set external a bigint=9223372036854775808 (8, 8)',
    'get external a string',
    'get external none',
    'delete external a number',
    'delete guest none',
  ]);
  assert.deepEqual(reports(o.d), [
    'kvp ok: set external a string: done',
    'kvp ok: set external a number: done',
    'kvp ok: set external a bigint: done',
    'kvp ok: get external a string: größer',
    'kvp failed: get external none: no such item (0x80070103)',
    'kvp ok: delete external a number: done',
    'kvp failed: delete guest none: no such item (0x80070103)',
  ]);
  assert.deepEqual(
    kvp.items().filter((i) => i.pool === 'external'),
    [
      { pool: 'external', key: 'a string', value: 'größer' },
      { pool: 'external', key: 'a bigint', value: '9223372036854775808' },
    ],
  );
});

test('data exchange: a value that the guest leaves out of its answer is looked up in the pool', () => {
  const o = ready('kvp');
  daemon(o, emptyPools());
  o.d.vmbus.services.kvp.get('guest', 'key');
  answer(o, take(o.c)); // Linux: status, but no value
  const pools = emptyPools();
  pools[1].set('key', 'value');
  assert.deepEqual(daemon(o, pools), ['enumerate guest 0', 'enumerate guest 1']);
  assert.deepEqual(
    o.d.vmbus.services.kvp.items().filter((i) => i.pool === 'guest'),
    [{ pool: 'guest', key: 'key', value: 'value' }],
  );
});

test('data exchange: items that the host has set before there was a guest, and of a guest that came back', () => {
  const d = new FakeDriver();
  const { kvp } = d.vmbus.services;
  assert.deepEqual([kvp.set('external', 'early', 'bird'), kvp.set('guest', 'lost', '1'), kvp.refresh()], [false, false, false]);
  const o = ready('kvp', 4, d);
  const pools = emptyPools();
  daemon(o, pools);
  assert.deepEqual([...pools[0], ...pools[1]], [['early', 'bird']]);
  kvp.delete('external', 'early');
  daemon(o, pools);
  d.post(FakeDriver.message(7, o.c.relid));
  assert.deepEqual([kvp.items(), d.clock.nextDue], [[], Number.POSITIVE_INFINITY]);
  const again = ready('kvp', 4, d);
  const fresh = emptyPools();
  daemon(again, fresh);
  assert.deepEqual([[...fresh[0]], [...fresh[3].keys()]], [[], ['HostName', 'VirtualMachineName']]);
});

test('data exchange: IP configuration of an adapter, both ways', () => {
  const o = ready('kvp');
  const { kvp } = o.d.vmbus.services;
  daemon(o, emptyPools());
  const settings = {
    dhcp: false,
    addresses: '10.1.2.3;fd00::2',
    subnets: '255.255.0.0;/64',
    gateways: '10.1.0.1',
    dns: '10.1.0.2',
  };
  assert.deepEqual(
    [
      kvp.setIp({ adapter: '{guid}', ...settings }),
      kvp.setIp({ adapter: 'none', ...settings, dhcp: true, addresses: '1.2.3.4' }),
      kvp.getIp('00:15:5D:00:00:01'),
    ],
    [true, true, true],
  );
  assert.deepEqual(daemon(o, emptyPools()), [
    'set IP {guid}: 10.1.2.3;fd00::2 255.255.0.0;/64 10.1.0.1 10.1.0.2, 3, 0',
    'set IP none: 1.2.3.4 255.255.0.0;/64 10.1.0.1 10.1.0.2, 1, 1',
    'get IP 00:15:5D:00:00:01:    , 0, 0',
  ]);
  assert.deepEqual(reports(o.d), [
    'kvp ok: set IP of {guid}: done',
    'kvp failed: set IP of none: the guest failed (0x80004005)',
    'kvp ok: get IP of 00:15:5D:00:00:01: 10.0.0.5;fe80::1 mask 255.0.0.0;/64 gateway 10.0.0.1 DNS 9.9.9.9',
  ]);
  const { adapters } = o.d.channelInfo(o.c.relid).details as { adapters: object };
  assert.deepEqual(adapters, {
    '00:15:5D:00:00:01': {
      dhcp: false,
      addresses: '10.0.0.5;fe80::1',
      subnets: '255.0.0.0;/64',
      gateways: '10.0.0.1',
      dns: '9.9.9.9',
    },
  });
});

test('data exchange: what does not fit is refused before it is sent', () => {
  const { kvp } = ready('kvp').d.vmbus.services;
  kvp.set('external', 'k'.repeat(255), 'v'.repeat(1023));
  for (const [wrong, message] of [
    [() => kvp.set('external', 'k'.repeat(256), ''), 'key: 256 characters, where 255 fit'],
    [() => kvp.set('external', 'k', 'v'.repeat(1024)), 'value of k: 1024 characters, where 1023 fit'],
    [() => kvp.set('external', '', 'v'), 'a key-value pair needs a key'],
    [() => kvp.set('external', 'k', -1), 'value of k: -1 does not fit into 32 bits'],
    [() => kvp.set('external', 'k', 1n << 64n), 'value of k: 18446744073709551616 does not fit into 64 bits'],
    [() => kvp.get('guest', 'a\0b'), 'key: a zero character'],
    [() => kvp.getIp('x'.repeat(128)), 'adapter: 128 characters, where 127 fit'],
  ] as const)
    assert.throws(wrong, new ConfigError(message));
});

test('data exchange: an enumeration without end ends, and short answers are no items', () => {
  const o = ready('kvp');
  const endless = (p: GuestPacket): void =>
    answer(o, p, 0, (b) => {
      setText(b, 20, `key ${b.getUint32(4, true)}`);
      setText(b, 20 + 512, '');
    });
  let asked = 0;
  for (let p = o.c.in.take(); p; p = o.c.in.take()) {
    asked++;
    endless(p);
  }
  // Two items that the host sets, then both pools.
  assert.deepEqual([asked, o.d.vmbus.services.kvp.items().filter((i) => i.pool === 'auto').length], [2 + 2 * 1024, 1023]);
  const short = ready('kvp');
  for (let p = short.c.in.take(); p; p = short.c.in.take()) {
    const out = icAnswer(p).slice(0, 28 + 40);
    viewOf(out).setUint16(18, 40, true);
    short.d.send(short.c, out, p.transactionId);
  }
  assert.deepEqual(short.d.notes(), [
    'vmbus kvp: enumerate auto 0: the answer has no item',
    'vmbus kvp: enumerate guest 0: the answer has no item',
  ]);
});

// --- backup ------------------------------------------------------------------------------------------------------------------------

test('backup: the guest is checked, frozen, thawed and told that it is over; a failure ends the sequence', () => {
  const o = ready('vss');
  const { vss } = o.d.vmbus.services;
  const operation = (status = 0, flags = 0): number => {
    const p = take(o.c);
    answer(o, p, status, (b) => b.setUint32(8, flags, true));
    return ic(p).body.getUint8(0);
  };
  const details = () => o.d.channelInfo(o.c.relid).details;
  assert.deepEqual([vss.freeze(), vss.freeze(), vss.thaw()], [true, false, false]);
  assert.deepEqual([operation(0, 5), operation()], [2, 5]);
  const common = { phase: 'ready', framework: '3.0', version: '5.0' };
  assert.deepEqual(details(), { ...common, fileSystems: 'frozen', last: 'freeze', status: 'done', autoRecovery: false });
  assert.equal(vss.thaw(), true);
  assert.deepEqual([operation(), operation()], [6, 4]);
  assert.equal((details() as { fileSystems: string }).fileSystems, 'thawed');
  assert.equal(vss.freeze(), true);
  assert.deepEqual([operation(FAIL), o.c.in.used], [2, 0]);
  assert.deepEqual(reports(o.d).slice(-2), [
    'vss ok: backup complete: done',
    'vss failed: hot backup: the guest failed (0x80004005)',
  ]);
  assert.equal(vss.freeze(), true);
});

test("backup: without the guest's daemon there is none", () => {
  const d = new FakeDriver();
  assert.equal(d.vmbus.services.vss.freeze(), false);
  d.connect();
  d.open(d.relidOf('vss'));
  d.advance(60 * S);
  assert.equal(d.vmbus.services.vss.thaw(), false);
});

// --- file copy ---------------------------------------------------------------------------------------------------------------------

const noise = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 7919) >>> 3);

/** A daemon that writes files; `status` may refuse a step. */
class CopyDaemon {
  readonly files = new Map<string, number[]>();
  readonly steps: string[] = [];
  #name = '';
  one(o: { d: FakeDriver; c: OpenedChannel }, status: (step: string) => number = () => 0): boolean {
    const p = o.c.in.take();
    if (!p) return false;
    const { type, body, size } = ic(p);
    const operation = body.getUint32(0, true);
    const name = ['start', 'write', 'complete', 'cancel'][operation];
    assert.equal(type, 7);
    assert.equal(size, [1088, 6196, 36, 36][operation]);
    let step = name;
    if (operation === 0) {
      this.#name = `${text(body, 556, 520)}|${text(body, 36, 520)}`;
      this.files.set(this.#name, []);
      step = `start ${this.#name} ${body.getUint32(1076, true)} ${body.getBigUint64(1080, true)}`;
    } else if (operation === 1) {
      const [offset, length] = [Number(body.getBigUint64(40, true)), body.getUint32(48, true)];
      step = `write ${offset} ${length}`;
      const file = this.files.get(this.#name) ?? [];
      for (let i = 0; i < length; i++) file[offset + i] = body.getUint8(52 + i);
    }
    this.steps.push(step);
    answer(o, p, status(name));
    return true;
  }
  all(o: { d: FakeDriver; c: OpenedChannel }, status?: (step: string) => number): string[] {
    while (this.one(o, status));
    return this.steps.splice(0);
  }
}

test('file copy: a file goes over in fragments, an empty one too, and one waits for the other and for the guest', () => {
  const d = new FakeDriver();
  const { fcopy } = d.vmbus.services;
  const data = noise(15_000);
  fcopy.copy({ to: '/tmp/new/file', bytes: data, overwrite: true, createPath: true });
  fcopy.copy({ to: '/empty', bytes: new Uint8Array(0) });
  // As the uio daemon of newer kernels has it: rings of 16 KiB with their headers.
  const o = ready('fcopy', 4, d);
  const guest = new CopyDaemon();
  guest.one(o);
  const { copying, done, size, waiting } = d.channelInfo(o.c.relid).details as Record<string, unknown>;
  assert.deepEqual([copying, done, size, waiting], ['/tmp/new/file', 0, 15_000, 1]);
  assert.deepEqual(guest.all(o), [
    'start /tmp/new/|file 3 15000',
    'write 0 6144',
    'write 6144 6144',
    'write 12288 2712',
    'complete',
    'start /|empty 0 0',
    'complete',
  ]);
  assert.deepEqual(guest.files.get('/tmp/new/|file'), [...data]);
  assert.deepEqual(reports(d), ['fcopy ok: /tmp/new/file: 15000 bytes copied', 'fcopy ok: /empty: 0 bytes copied']);
});

test('file copy: a file that exists, a disk that is full, and a host that gives up', () => {
  const o = ready('fcopy');
  const { fcopy } = o.d.vmbus.services;
  const guest = new CopyDaemon();
  const copy = () => fcopy.copy({ to: '/f', bytes: noise(7000) });
  copy();
  assert.deepEqual(
    guest.all(o, () => 0x8007_0050),
    ['start /|f 0 7000'],
  );
  copy();
  assert.deepEqual(
    guest.all(o, (step) => (step === 'write' ? 0x8007_0070 : 0)),
    ['start /|f 0 7000', 'write 0 6144', 'cancel'],
  );
  copy();
  copy();
  guest.one(o);
  assert.equal(fcopy.cancel(), 2);
  // What is on its way is answered, and then it is over.
  assert.deepEqual(guest.all(o), ['start /|f 0 7000', 'write 0 6144', 'cancel']);
  assert.equal(fcopy.cancel(), 0);
  copy();
  assert.deepEqual(guest.all(o).at(-1), 'complete');
  assert.deepEqual(reports(o.d), [
    'fcopy failed: /f: the file exists (0x80070050)',
    'fcopy failed: /f: the disk is full (0x80070070)',
    'fcopy failed: /f: cancelled',
    'fcopy ok: /f: 7000 bytes copied',
  ]);
});

test('file copy: a guest that closes the channel in the middle gets the file from its start when it is back', () => {
  const o = ready('fcopy');
  o.d.vmbus.services.fcopy.copy({ to: '/f', bytes: noise(20_000) });
  const guest = new CopyDaemon();
  for (let i = 0; i < 3; i++) guest.one(o);
  o.d.post(FakeDriver.message(7, o.c.relid));
  const again = ready('fcopy', 4, o.d);
  const other = new CopyDaemon();
  other.all(again);
  assert.deepEqual(other.files.get('/|f'), [...noise(20_000)]);
});

test('file copy: in the middle everything is plain state, and a copy of it ends alike', () => {
  const data = noise(30_000);
  const run = (middle: boolean): [string[], unknown] => {
    const o = ready('fcopy');
    o.d.vmbus.services.fcopy.copy({ to: '/f', bytes: data });
    const guest = new CopyDaemon();
    for (let i = 0; i < 3; i++) guest.one(o);
    if (middle) {
      const before = capture(o.d.vmbus.state) as Record<string, unknown>;
      const ram = o.d.ram.bytes.slice();
      guest.one(o);
      guest.one(o);
      guest.steps.splice(-2);
      assign(o.d.vmbus.state as unknown as Record<string, unknown>, before);
      o.d.ram.bytes.set(ram);
    }
    return [guest.all(o), guest.files];
  };
  assert.deepEqual(run(true), run(false));
});

test('file copy: a guest whose driver is there before its daemon is asked again; one whose daemon is there is believed', () => {
  const o = ready('fcopy');
  const { fcopy } = o.d.vmbus.services;
  const guest = new CopyDaemon();
  const copy = () => fcopy.copy({ to: '/f', bytes: noise(10) });
  copy();
  for (let i = 0; i < 3; i++) {
    assert.deepEqual(
      guest.all(o, () => FAIL),
      ['start /|f 0 10'],
    );
    o.d.advance(S / 2);
  }
  assert.deepEqual(guest.all(o), ['start /|f 0 10', 'write 0 10', 'complete']);
  copy();
  assert.deepEqual(
    guest.all(o, () => FAIL),
    ['start /|f 0 10'],
  );
  assert.deepEqual(reports(o.d), ['fcopy ok: /f: 10 bytes copied', 'fcopy failed: /f: the guest failed (0x80004005)']);
  // Not for ever.
  const never = ready('fcopy');
  never.d.vmbus.services.fcopy.copy({ to: '/f', bytes: noise(10) });
  let starts = guest.all(never, () => FAIL).length;
  never.d.advance(100 * S, () => {
    starts += guest.all(never, () => FAIL).length;
  });
  assert.deepEqual([starts, never.d.vmbus.services.fcopy.cancel()], [121, 0]);
});

test('file copy: only full paths of files', () => {
  const { fcopy } = new FakeDriver().vmbus.services;
  const copy = (to: string) => () => fcopy.copy({ to, bytes: new Uint8Array(1) });
  for (const to of ['file', '/tmp/', '', '/a\0b'])
    assert.throws(copy(to), new ConfigError(`${to}: not the full path of a file in the guest`));
  assert.throws(copy(`/${'n'.repeat(260)}`), /its name has more than 259 characters/);
  assert.throws(copy(`/${'p'.repeat(260)}/n`), /its folder has more than 259 characters/);
});

// --- the older ones ----------------------------------------------------------------------------------------------------------------

test('shutdown: restart, hibernate and force are flags, and the guest may say no', () => {
  const o = ready('shutdown');
  const { shutdown } = o.d.vmbus.services;
  const flags = (status: number): number[] => {
    const p = take(o.c);
    answer(o, p, status);
    const { body } = ic(p);
    return [body.getUint32(0, true), body.getUint32(8, true)];
  };
  const seen: unknown[] = [];
  for (const [kind, force] of [
    ['shutdown', false],
    ['shutdown', true],
    ['restart', false],
    ['hibernate', false],
    ['hibernate', true],
  ] as const) {
    assert.equal(shutdown.request(kind, force), true);
    seen.push(flags(kind === 'hibernate' ? FAIL : 0));
  }
  assert.deepEqual(
    seen,
    [0, 1, 2, 4, 5].map((f) => [0x8000_0000, f]),
  );
  const no = 'shutdown failed: hibernate: the guest failed (0x80004005)';
  assert.deepEqual(reports(o.d).slice(-3), ['shutdown ok: restart: the guest agrees', no, no]);
});

test('timesync: on request the guest sets its clock, and samples go on from there', () => {
  const o = ready('timesync');
  const flags = (): number[] => {
    const out: number[] = [];
    for (let p = o.c.in.take(); p; p = o.c.in.take()) {
      out.push(ic(p).body.getUint8(16));
      answer(o, p);
    }
    return out;
  };
  assert.deepEqual(flags(), [1]);
  o.d.advance(3 * S);
  assert.deepEqual([o.d.vmbus.services.timesync.sync(), flags()], [true, [1]]);
  o.d.advance(4 * S);
  assert.deepEqual(flags(), []);
  o.d.advance(1 * S);
  assert.deepEqual(flags(), [2]);
  const { samples, answered, hostTime } = o.d.channelInfo(o.c.relid).details as Record<string, unknown>;
  assert.deepEqual([samples, answered, hostTime], [3, 3, '1767225608.001 s since 1970']);
  assert.equal(new FakeDriver().vmbus.services.timesync.sync(), false);
});

test("heartbeat: how the guest's applications are", () => {
  const o = ready('heartbeat');
  const beat = (state: number): unknown => {
    answer(o, take(o.c), 0, (b) => {
      b.setBigUint64(0, b.getBigUint64(0, true) + 1n, true);
      b.setUint32(8, state, true);
    });
    o.d.advance(2 * S);
    return (o.d.channelInfo(o.c.relid).details as { applications: string }).applications;
  };
  assert.deepEqual([0, 1, 1, 2, 9].map(beat), ['unknown', 'healthy', 'healthy', 'critical', 'state 9']);
  assert.deepEqual(reports(o.d), [
    'heartbeat ok: applications: healthy',
    'heartbeat failed: applications: critical',
    'heartbeat failed: applications: state 9',
  ]);
});

// --- guests that do not answer -----------------------------------------------------------------------------------------------------

test('a guest that does not answer: whoever asked is told after a minute, and may ask again', () => {
  const told = (device: string, work: (d: FakeDriver) => unknown, seconds: number): string[] => {
    const o = ready(device, 8);
    // What the host has asked by itself is answered; what the user asks is not.
    if (device !== 'heartbeat') for (let p = o.c.in.take(); p; p = o.c.in.take()) answer(o, p, NO_MORE);
    work(o.d);
    o.d.advance((seconds - 1) * S);
    const before = reports(o.d).filter((r) => r.includes('not answered'));
    o.d.advance(2 * S);
    assert.deepEqual(before, [], device);
    const all = reports(o.d).filter((r) => r.includes('not answered'));
    work(o.d);
    assert.notEqual(o.c.in.used, 0, device);
    return all;
  };
  assert.deepEqual(
    [
      told('shutdown', (d) => d.vmbus.services.shutdown.request('restart'), 60),
      told('timesync', (d) => d.vmbus.services.timesync.sync(), 60),
      told('kvp', (d) => [d.vmbus.services.kvp.get('guest', 'a'), d.vmbus.services.kvp.set('external', 'b', 'c')], 60),
      told('vss', (d) => d.vmbus.services.vss.freeze(), 60),
      told('fcopy', (d) => d.vmbus.services.fcopy.copy({ to: '/x', bytes: new Uint8Array(1) }), 60),
      told('heartbeat', () => {}, 10),
    ],
    [
      ['shutdown failed: restart: the guest has not answered within 60 s'],
      ['timesync failed: time sync: the guest has not answered within 60 s'],
      [
        'kvp failed: get guest a: the guest has not answered within 60 s',
        'kvp failed: set external b: the guest has not answered within 60 s',
      ],
      ['vss failed: hot backup: the guest has not answered within 60 s'],
      ['fcopy failed: /x: the guest has not answered within 60 s'],
      ['heartbeat failed: the guest has not answered within 10 s'],
    ],
  );
});

test('backup: a guest may take 15 minutes to freeze its file systems', () => {
  const o = ready('vss');
  o.d.vmbus.services.vss.freeze();
  answer(o, take(o.c));
  take(o.c);
  o.d.advance(15 * 60 * S);
  assert.equal(reports(o.d).length, 1);
  o.d.advance(61 * S);
  assert.deepEqual(reports(o.d).slice(1), ['vss failed: freeze: the guest has not answered within 960 s']);
});

test('heartbeat: a guest that answers again is told of', () => {
  const o = ready('heartbeat');
  const details = () => o.d.channelInfo(o.c.relid).details as { alive: boolean };
  o.d.advance(35 * S);
  const beats: GuestPacket[] = [];
  for (let p = o.c.in.take(); p; p = o.c.in.take()) beats.push(p);
  assert.deepEqual([beats.length, details().alive], [1, false]);
  answer(o, beats[0], 0, (b) => b.setBigUint64(0, b.getBigUint64(0, true) + 1n, true));
  assert.deepEqual(
    [details().alive, reports(o.d)],
    [true, ['heartbeat failed: the guest has not answered within 10 s', 'heartbeat ok: the guest answers again']],
  );
});

test('file copy: files do not wait for ever for a guest that takes them', () => {
  const d = new FakeDriver();
  const { fcopy } = d.vmbus.services;
  fcopy.copy({ to: '/a', bytes: new Uint8Array(1) });
  d.advance(200 * S);
  fcopy.copy({ to: '/b', bytes: new Uint8Array(1) });
  d.advance(99 * S);
  assert.deepEqual(reports(d), []);
  d.advance(2 * S);
  const why = "the guest's file copy service has not come up within 300 s";
  assert.deepEqual(reports(d), [`fcopy failed: /a: ${why}`, `fcopy failed: /b: ${why}`]);
});

// --- hostile guests ------------------------------------------------------------------------------------------------------------------

test('any answers at all to anything that is asked: no exception, no endless talk, and a good guest is served again', () => {
  const spoil = fc.record({
    status: fc.constantFrom(0, FAIL, NO_MORE, 0x8007_0050, 1),
    flags: fc.constantFrom(5, 5, 5, 5, 1, 0xff),
    type: fc.constantFrom(-1, -1, -1, 0, 9),
    size: fc.constantFrom(-1, -1, -1, 0, 4, 0xffff),
    cut: fc.constantFrom(-1, -1, -1, 0, 27, 28, 40, 600),
    bytes: fc.uint8Array({ maxLength: 64 }),
    at: fc.nat({ max: 2600 }),
    twice: fc.boolean(),
  });
  let answered = 0;
  fc.assert(
    fc.property(
      fc.constantFrom('kvp', 'vss', 'fcopy', 'shutdown', 'heartbeat', 'timesync'),
      fc.array(spoil, { maxLength: 30 }),
      (device, spoils) => {
        const o = ready(device);
        const { services } = o.d.vmbus;
        const ask = (): void => {
          services.kvp.set('guest', 'k', 'v');
          services.kvp.getIp('a');
          services.vss.freeze();
          services.fcopy.copy({ to: '/f', bytes: noise(10_000) });
          services.shutdown.request('restart');
          services.timesync.sync();
        };
        ask();
        for (const s of spoils) {
          let p = o.c.in.take();
          if (!p) {
            o.d.advance(61 * S);
            ask();
            p = o.c.in.take();
          }
          if (!p) break;
          answered++;
          let out = icAnswer(p);
          const v = viewOf(out);
          v.setUint32(20, s.status, true);
          v.setUint8(25, s.flags);
          if (s.type >= 0) v.setUint16(12, s.type, true);
          if (s.size >= 0) v.setUint16(18, s.size, true);
          out.set(s.bytes.subarray(0, Math.max(0, out.length - 28 - s.at)), Math.min(out.length, 28 + s.at));
          if (s.cut >= 0) out = out.slice(0, s.cut);
          o.d.send(o.c, out, p.transactionId);
          if (s.twice) o.d.send(o.c, out, p.transactionId);
          o.d.channelInfo(o.c.relid);
        }
        assert.equal(o.c.out.used, 0);
        o.d.post(FakeDriver.message(7, o.c.relid));
        const again = ready(device, 4, o.d);
        assert.equal((o.d.channelInfo(again.c.relid).details as { phase: string }).phase, 'ready');
      },
    ),
    { numRuns: 150, seed: 4 },
  );
  assert.ok(answered > 200, `${answered}`);
});
