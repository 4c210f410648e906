/** What a hostile guest does, and what its host and the world outside do meanwhile: a row for each kind of record. */
import { CALLS } from '../../emulator/hyperv/tlfs.ts';
import { VP_REGISTERS } from '../../emulator/hyperv/registers.ts';
import { SYSREGS } from '../../emulator/cpu/sysregs.ts';
import { ConfigError, KVP_POOLS, type NetworkEvent, type SocketEvent } from '../../emulator/index.ts';
import { viewOf } from '../../emulator/base/struct.ts';
import { COM1, COM2, GICD_BY_TREE, GICR, RTC } from '../../emulator/platform/addresses.ts';
import { DEVICES } from '../../emulator/vmbus/devices/index.ts';
import {
  BUFFER_GPADL,
  BUFFERS,
  BUFFERS_SIZE,
  type Guest,
  harmlessNumber,
  INPUT_PAGE,
  LOADS,
  OUTPUT_PAGE,
  type OutPacket,
  PAGE,
  payloadOf,
  PRIMARY_COUNT,
  relidOf,
  RING_GPADL,
  STORES,
  SUB_CHANNELS,
  subChannel,
  SYNIC_PAGES,
} from './guest.ts';
import type { Action, Random, Reader } from './input.ts';
import * as packets from './packets.ts';
import { changed, number32, anyValue } from './values.ts';

export type Do = (r: Reader, g: Guest) => void;

const CODES = [...Object.values(CALLS).map((c) => c.code), 0, 0x3d, 0x7f, 0x8001, 0x8002, 0x8003, 0xffff];
/** Calls that there are, a few times each: what is behind them is worth more. */
const OFTEN = [0x50, 0x51, 0x5c, 0x5d, 2, 3, 0x13, 0x14, 0x0b, 0x15, 0x46, 0x99, 0x8001, 0x8003];
const REGISTERS = VP_REGISTERS.map((row) => row.number);
const VERSIONS = [0x3_0000, 0x4_0000, 0x4_0001, 0x5_0000, 0x5_0001, 0x5_0002, 0x5_0003, 0x6_0000];
const DEVICE_NAMES = Object.keys(DEVICES) as (keyof typeof DEVICES)[];
const ICS = ['heartbeat', 'shutdown', 'timesync', 'kvp', 'vss', 'fcopy'] as const;

/** A primary channel most often, else a sub-channel or a socket's, else none. */
const relid = (r: Reader): number => {
  const n = r.u8();
  return n < 192 ? 1 + (n % PRIMARY_COUNT) : n < 240 ? subChannel(n) : n === 255 ? number32(r) : n % 96;
};
const offset = (r: Reader): number => (r.u16() & 0xfff) * 8;

// --- hypercalls -----------------------------------------------------------------------------------------------------------------

/** Any call by either conduit, in any form. */
const hypercall: Do = (r, g) => {
  const how = r.u8();
  const code = how & 1 ? r.pick(OFTEN) : r.pick(CODES);
  let control = BigInt(code);
  if (how & 2) control |= 1n << 16n;
  const form = r.u8();
  if (form & 1) control |= BigInt(1 + (r.u8() & 7)) << 32n;
  if (form & 2) control |= BigInt(r.u8() & 7) << 48n;
  if (form & 4) control |= BigInt(r.u8() & 15) << 17n;
  if ((form & 0x18) === 0x18) control ^= anyValue(r);
  const inputs: bigint[] = [];
  const words = (n: number): bigint[] => Array.from({ length: n }, () => anyValue(r));
  if (how & 2) inputs.push(...words(Math.min(16, 2 + (r.u8() & 15))));
  else {
    const block = new Uint8Array(128);
    words(Math.min(16, r.left >> 1)).forEach((w, i) => {
      viewOf(block).setBigUint64(8 * i, w, true);
    });
    g.write(INPUT_PAGE, block);
    inputs.push(form & 0x20 ? anyValue(r) : BigInt(INPUT_PAGE), form & 0x40 ? anyValue(r) : BigInt(OUTPUT_PAGE));
  }
  g.hypercall(control, inputs, how & 8 ? 1 : 0, (how & 4) !== 0);
};

const pickRegister = (r: Reader): number => (r.below(16) === 15 ? number32(r) : r.pick(REGISTERS));

const getRegister: Do = (r, g) => {
  const vp = r.u8();
  g.hypercall(0x1_0001_0050n, [0xffff_ffff_ffff_ffffn, vp & 2 ? BigInt(vp >> 4) : 0xffff_fffen, BigInt(pickRegister(r))], vp & 1);
};

/** Pages that the hypervisor writes go where the guest has room for them. */
const setRegister: Do = (r, g) => {
  const n = pickRegister(r);
  const sane = r.u8();
  const value = sane & 1 ? BigInt(BUFFERS + (sane >> 2) * PAGE) | BigInt((sane >> 1) & 1) : anyValue(r);
  g.setRegister(n, value, r.u8() & 1);
};

/** Stimers, programmed as a driver would. */
const stimer: Do = (r, g) => {
  const n = r.u8() & 3;
  const flags = r.u8();
  const config =
    BigInt(flags & 15) | (flags & 16 ? 1n << 12n : 0n) | (BigInt(r.pick([18, 20, 5, 31])) << 4n) | (BigInt(r.u8() & 15) << 16n);
  g.setRegister(0xb0000 + 2 * n, config);
  g.setRegister(0xb0001 + 2 * n, flags & 32 ? anyValue(r) : BigInt(r.u16()));
};

const smccc: Do = (r, g) => {
  const ids = [
    0x8400_0000, 0x8400_0001, 0x8400_0003, 0xc400_0003, 0xc400_0004, 0x8400_0006, 0x8400_000a, 0xc400_0001, 0x8000_0000,
    0x8000_0001, 0x8600_ff01, 0xc400_000e, 0x8400_0050, 0xc600_ff40, 0xc600_ff41, 0xc600_ff42,
  ];
  const end = r.below(32);
  const id = end === 1 ? r.pick([0x8400_0002, 0x8400_0008, 0x8400_0009, 0xc400_0012]) : end === 2 ? number32(r) : r.pick(ids);
  g.execute(r.pick(['hvc0', 'smc0']), [BigInt(id), anyValue(r), anyValue(r), anyValue(r)], r.u8() & 1);
};

// --- messages -------------------------------------------------------------------------------------------------------------------

/** Any message, with what it might say. */
const message: Do = (r, g) => {
  const type = r.pick([3, 5, 7, 8, 9, 11, 13, 14, 16, 18, 19, 21, 22, 25, 27, 29, 0, 1, 2, 30, 255]);
  const words: number[] = [type, 0];
  if ([5, 7, 8, 11, 13, 22].includes(type)) words.push(relid(r));
  while (r.left > 2 && words.length < 40) words.push(number32(r));
  const how = r.u8();
  const payload = payloadOf(...words, new Uint8Array(how & 1 ? 200 - 4 * words.length : 0));
  g.post(payload, how & 2 ? number32(r) : g.memory.connection, how & 4 ? number32(r) : 1, how & 8 ? number32(r) : payload.length);
};

const contact: Do = (r, g) => {
  const version = r.pick(VERSIONS);
  const pages = r.u8();
  g.contact(
    version,
    pages & 1 ? [BUFFERS, BUFFERS + PAGE] : pages & 2 ? [number32(r), number32(r)] : [0, 0],
    pages & 4 ? number32(r) : 0,
  );
  if (pages & 8) g.message(3);
};

const connect: Do = (r, g) => g.connect(r.pick(VERSIONS), r.flag() ? [BUFFERS, BUFFERS + PAGE] : [0, 0]);

/** GPADLs: of rings, of buffers, of nothing sensible, whole and in part. */
const gpadl: Do = (r, g) => {
  const of = relid(r);
  const how = r.u8();
  const id = how & 1 ? RING_GPADL + (of & 0xff) : how & 2 ? BUFFER_GPADL + (r.u16() & 0x3ff) : number32(r);
  const ranges = how & 4 ? r.u8() : 1;
  const words: bigint[] = [];
  for (let n = 0; n < Math.min(ranges, 4); n++) {
    const pages = r.u8();
    words.push(how & 8 ? anyValue(r) : BigInt(pages * PAGE) | (how & 16 ? BigInt(r.u16()) << 32n : 0n));
    for (let p = 0; p < pages; p++) words.push(how & 32 ? anyValue(r) : BigInt(BUFFERS / PAGE + ((n * 256 + p) & 0xfff)));
  }
  g.gpadlOf(of, id, ranges, words, how & 64 ? r.u16() : undefined);
};

const gpadlBody: Do = (r, g) => {
  const words = Array.from({ length: Math.min(28, r.left >> 1) }, () => anyValue(r));
  const body = new Uint8Array(8 * words.length);
  words.forEach((w, i) => {
    viewOf(body).setBigUint64(8 * i, w, true);
  });
  g.message(9, r.u8(), r.flag() ? RING_GPADL + (r.u8() & 63) : number32(r), body);
};

const teardown: Do = (r, g) => {
  const of = relid(r);
  g.message(11, of, r.flag() ? RING_GPADL + (of & 0xff) : BUFFER_GPADL + (r.u16() & 0x3ff));
};

const open: Do = (r, g) => g.open(relid(r), r.pick([4, 2, 3, 16, 32, 1]), r.u8() & 1);
const openAgain: Do = (r, g) => {
  const of = relid(r);
  g.message(5, of, r.u8(), RING_GPADL + (of & 0xff), number32(r), number32(r), new Uint8Array(120));
};
const close: Do = (r, g) => {
  const of = relid(r);
  const how = r.u8();
  g.message(7, of);
  if (how & 1) g.message(11, of, RING_GPADL + of);
  if (how & 2) g.message(13, of);
};

// --- rings ----------------------------------------------------------------------------------------------------------------------

/** A packet of any bytes. */
const packet: Do = (r, g) => {
  const of = relid(r);
  const how = r.u8();
  const out: OutPacket = {
    type: how & 1 ? r.pick([6, 7, 8, 9, 10, 11]) : number32(r) & 0xffff,
    flags: how >> 4,
    transactionId: anyValue(r),
    ranges: how & 2 ? packets.rangesOf(r, r.u16()) : new Uint8Array(0),
    payload: r.rest(),
    signal: (how & 4) === 0,
  };
  g.send(of, out);
};

const ringHeader: Do = (r, g) => {
  const of = relid(r);
  const how = r.u8();
  g.setU32(g.ringAt(of, (how & 1) !== 0).gpa + 4 * (how & 2 ? r.pick([0, 1, 2, 3, 16]) : r.u8() & 63), number32(r));
  if (how & 4) g.signal(of);
};

/** Bytes where the next packet would be; the write index goes on by as many, or by any number. */
const ringBytes: Do = (r, g) => {
  const of = relid(r);
  const how = r.u8();
  const advance = how & 1 ? number32(r) : undefined;
  const head = how & 2 ? payloadOf(r.u16() | (r.u16() << 16), r.u16() | (r.u16() << 16)) : new Uint8Array(0);
  const bytes = Uint8Array.from([...head, ...r.rest()]);
  g.ringWrite(of, bytes, advance ?? Math.ceil(bytes.length / 8) * 8);
  g.signal(of);
};

const receive: Do = (r, g) => g.receive(relid(r), r.flag());
const signal: Do = (r, g) => {
  const how = r.u8();
  if (how & 1) g.signal(relid(r), (how >> 1) & 1);
  else g.hypercall(0x1_005dn, [anyValue(r)]);
};

const SUBS: Readonly<Partial<Record<keyof typeof DEVICES, readonly number[]>>> = SUB_CHANNELS;

/** A packet by `make` on the device's channel, or on one of its sub-channels. */
const to =
  (device: keyof typeof DEVICES, make: (r: Reader, g: Guest) => OutPacket): Do =>
  (r, g) => {
    const how = r.u8();
    const at = how >= 224 ? (SUBS[device]?.[how & 1] ?? subChannel(how)) : relidOf(device);
    if (how & 1) g.receive(at, (how & 2) !== 0);
    g.send(at, make(r, g));
  };

const answer: Do = (r, g) => {
  const at = relidOf(r.pick(ICS));
  g.receive(at, false);
  g.send(at, packets.icAnswer(r, g, at));
};

const complete: Do = (r, g) => {
  const at = r.below(4) === 3 ? r.pick(SUB_CHANNELS.network) : relidOf('network');
  g.receive(at);
  g.send(at, packets.completionOf(r, g, at));
};

const socket: Do = (r, g) => {
  const at = r.pick(SUB_CHANNELS.socket);
  const how = r.u8();
  if (how & 1) g.receive(at, (how & 2) !== 0);
  g.send(at, packets.socketPacket(r));
};

/** A program of the guest connects to a port of the host. */
const socketConnect: Do = (r, g) => {
  const guid = (port: number): Uint8Array => payloadOf(port, 0x11e6_facb, 0x6400_58bd, 0xd386_796a);
  const ours = r.pick([7, 7, 80, 0, 0xffff_ffff]);
  g.post(
    changed(r, payloadOf(21, 0, guid(r.u8()), guid(ours)), [
      [8, 4],
      [24, 4],
      [28, 4],
    ]),
  );
};

// --- MMIO, registers ------------------------------------------------------------------------------------------------------------

const REGIONS = [
  [GICD_BY_TREE.gpa, 0x1_0000],
  [GICR.gpa, 0x4_0000],
  [COM1.gpa, 0x1000],
  [COM2.gpa, 0x1000],
  [RTC.gpa, 0x1000],
  [0xe800_0000, 0x2000],
  [0xe810_0000, 0x4000],
  [0xe000_0000, 0x80_0000],
  [0xdff0_0000, 0x20_0000],
  [0x10_0000_0000, 0x1_0000],
] as const;

const mmio: Do = (r, g) => {
  const [gpa, size] = r.pick(REGIONS);
  const how = r.u8();
  let at = r.u16() | (size > 0x1_0000 ? r.u8() << 16 : 0);
  // Registers are mostly near the beginning of a frame.
  if (how & 1) at = (at & 0x3_0000) | (at & 0xfff);
  if (how & 2) at &= ~7;
  else if (how & 4) at &= ~3;
  const address = BigInt(gpa + (at % size));
  const other = how >> 5;
  if (other === 7)
    g.execute(r.pick(['ldp', 'stp', 'ldxr', 'stxr', 'ldadd', 'ldrq', 'dczva']), [0n, address, anyValue(r), anyValue(r)]);
  else if (how & 8) g.execute(r.pick(LOADS), [0n, address]);
  else g.execute(r.pick(STORES), [anyValue(r), address]);
};

const sysreg: Do = (r, g) => {
  const how = r.u8();
  const s = SYSREGS[r.u16() % SYSREGS.length];
  const fields = how & 0x10 ? r.u16() | ((how >> 5) << 16) : (s.op0 << 14) | (s.op1 << 11) | (s.crn << 7) | (s.crm << 3) | s.op2;
  const word = (0xd500_0000 | (how & 1 ? 0x20_0000 : 0) | ((fields & 0x1_ffff) << 5)) >>> 0;
  g.execute(word, [anyValue(r)], (how >> 1) & 1);
};

const instruction: Do = (r, g) => {
  const pick = r.u8() & 3;
  if (pick === 0) g.execute((0xd400_0002 | (r.u16() << 5)) >>> 0, [anyValue(r), anyValue(r)], r.u8() & 1);
  else if (pick === 1) g.execute((0xd400_0003 | ((r.u16() & 3) << 5)) >>> 0, [anyValue(r), anyValue(r)]);
  else g.execute(r.pick([0xd503_207f, 0xd503_205f, 0xd503_209f, 0xd503_203f, 0xd508_871f]), [], 1);
};

const wait: Do = (r, g) => {
  const n = r.u8();
  g.wait(2 ** (6 + (n % 29)));
};

const write: Do = (r, g) => {
  const how = r.u8();
  const at = how & 1 ? SYNIC_PAGES + (r.u16() & 0x3ff8) : BUFFERS + offset(r) + (how >> 4) * 0x10_0000;
  g.write(Math.min(at, BUFFERS + BUFFERS_SIZE - 256), r.rest());
};

/** Triggers of the monitor page. */
const trigger: Do = (r, g) => g.setU32(BUFFERS + PAGE + 8 + 8 * (r.u8() & 3), number32(r));

// --- NVMe -----------------------------------------------------------------------------------------------------------------------

const CONFIG_WINDOW = 0xe800_0000;
const BAR = 0xe810_0000;
const ADMIN_SQ = BUFFERS + 0x80_0000;
const ADMIN_CQ = ADMIN_SQ + PAGE;
const store = (g: Guest, at: number, value: bigint): void => void g.execute('strw', [value, BigInt(at)]);

/** What a driver does to have the controller: window, BAR, MSI-X, admin queues. */
export function setUpNvme(g: Guest): void {
  const relid = relidOf('pci');
  const send = (...words: number[]): void => g.send(relid, { payload: payloadOf(...words) });
  send(0x4249_0013, 0x1_0004);
  send(0x4249_0007, 0, CONFIG_WINDOW, 0);
  send(0x4249_0010, 0, 0, 0, 0, 0, 0, 0, 0);
  send(0x4249_001b, 0, 64, 0x1_0000);
  g.receive(relid);
  store(g, CONFIG_WINDOW, 0n);
  store(g, CONFIG_WINDOW + 0x1010, BigInt(BAR));
  store(g, CONFIG_WINDOW + 0x1014, 0n);
  store(g, CONFIG_WINDOW + 0x1004, 6n);
  store(g, CONFIG_WINDOW + 0x1040, 0x8000_0000n);
  for (const [n, v] of [0xffff_0040n, 0n, 64n, 0n].entries()) store(g, BAR + 0x2000 + 4 * n, v);
  store(g, BAR + 0x24, 0x003f_003fn);
  store(g, BAR + 0x28, BigInt(ADMIN_SQ));
  store(g, BAR + 0x2c, 0n);
  store(g, BAR + 0x30, BigInt(ADMIN_CQ));
  store(g, BAR + 0x34, 0n);
  store(g, BAR + 0x14, 0x46_0001n);
  g.memory.nvmeTail = 0;
}

/** A command in a submission queue: the admin queue's, or that of queue 1, which lies behind it. */
const nvme: Do = (r, g) => {
  const io = r.flag();
  const base = io ? ADMIN_SQ + 2 * PAGE : ADMIN_SQ;
  const opcode = io ? r.pick([0, 1, 2, 2, 4, 9]) : r.pick([6, 5, 1, 2, 9, 0xa, 0xc, 8, 0, 4, 0x11]);
  const command = new Uint8Array(64);
  const view = viewOf(command);
  view.setUint8(0, opcode);
  view.setUint16(2, r.u8(), true);
  view.setUint32(4, r.u8() & 3, true);
  view.setBigUint64(24, BigInt(BUFFERS + 0x90_0000 + (r.u8() & 7) * 4), true);
  view.setBigUint64(32, BigInt(BUFFERS + 0x91_0000), true);
  const dwords =
    opcode === 6 && !io
      ? [r.u8() & 3]
      : opcode === 5 || opcode === 1
        ? io
          ? [r.u8(), 0, r.u8() & 63]
          : [0x003f_0001, opcode === 5 ? 3 : 0x1_0001]
        : [r.u8(), 0, r.u8()];
  if (!io && opcode === 5) view.setBigUint64(24, BigInt(ADMIN_SQ + 3 * PAGE), true);
  if (!io && opcode === 1) view.setBigUint64(24, BigInt(ADMIN_SQ + 2 * PAGE), true);
  dwords.forEach((d, i) => {
    view.setUint32(40 + 4 * i, d, true);
  });
  const edited = changed(r, command, [
    [4, 4],
    [24, 8],
    [32, 8],
    [40, 4],
    [44, 4],
    [48, 4],
  ]);
  const tail = io ? (g.memory.nvmeTail >> 8) & 63 : g.memory.nvmeTail & 63;
  g.write(base + 64 * tail, edited);
  const next = (tail + 1) & 63;
  g.memory.nvmeTail = io ? (g.memory.nvmeTail & 255) | (next << 8) : (g.memory.nvmeTail & ~255) | next;
  store(g, BAR + 0x1000 + (io ? 8 : 0), BigInt(next));
  if (r.flag()) g.wait(50_000);
  // Completions that have been seen.
  if (r.flag()) store(g, BAR + 0x1004 + (io ? 8 : 0), BigInt(r.u8() & 63));
};
const nvmeSetUp: Do = (_r, g) => setUpNvme(g);
const prpList: Do = (r, g) => {
  const entries = Array.from({ length: Math.min(64, r.left) }, () =>
    r.u8() & 1 ? BigInt(BUFFERS + 0x92_0000 + r.u8() * PAGE) : anyValue(r),
  );
  const list = new Uint8Array(8 * entries.length);
  entries.forEach((e, i) => {
    viewOf(list).setBigUint64(8 * i, e, true);
  });
  g.write(r.flag() ? BUFFERS + 0x91_0000 : BUFFERS + 0x91_1000 - list.length, list);
};

// --- the host's side, and the world outside -------------------------------------------------------------------------------------

/** What a user may ask for is refused by a message, not by anything else. */
const asked = (work: () => unknown): void => {
  try {
    work();
  } catch (e) {
    if (!(e instanceof ConfigError) || /\n/.test(e.message)) throw e;
  }
};

const service: Do = (r, g) => {
  const { services } = g.machine;
  const pool = KVP_POOLS[r.u8() % KVP_POOLS.length];
  const text = String.fromCharCode(...r.rest(r.u8() & 7), 97);
  const works: (() => unknown)[] = [
    () => services.shutdown.request(r.pick(['shutdown', 'restart', 'hibernate']), r.flag()),
    () => services.timesync.sync(),
    () => services.kvp.set(pool, text, r.flag() ? text : r.u8()),
    () => services.kvp.get(pool, text),
    () => services.kvp.delete(pool, text),
    () => services.kvp.refresh(r.flag() ? pool : undefined),
    () => services.kvp.getIp('00:15:5D:01:02:03'),
    () => services.kvp.setIp({ adapter: '{x}', dhcp: r.flag(), addresses: text, subnets: '', gateways: '', dns: '' }),
    () => services.vss.freeze(),
    () => services.vss.thaw(),
    () => services.fcopy.copy({ to: `/tmp/${text}`, bytes: new Uint8Array(r.u16() & 0x3fff), overwrite: r.flag() }),
    () => services.fcopy.cancel(),
    () => services.balloon.setTarget(2 * (r.u8() & 31)),
    () => services.balloon.hotAdd(r.u8()),
    () => g.machine.requestShutdown(r.flag()),
  ];
  asked(r.pick(works));
};

const host: Do = (r, g) => {
  const m = g.machine;
  const device = r.pick(DEVICE_NAMES);
  const { name, disk } = r.pick(g.disks);
  const works: (() => unknown)[] = [
    () => m.sendKey(number32(r) & 0xffff, r.flag()),
    () => m.sendMouse({ x: r.u16(), y: r.u16(), buttons: r.u8(), wheel: r.u8() - 128 }),
    () =>
      m.resizeDisplay(
        r.pick([
          { width: 800, height: 600 },
          { width: 640, height: 480 },
          { width: 3840, height: 2160 },
        ]),
      ),
    () => m.rescindDevice(device),
    () => m.offerDevice(device),
    () => m.attachDisk({ name, disk }),
    () => m.attachDisk({ name: `x${r.u8() & 63}`, disk }),
    () => m.detachDisk(name),
    () =>
      m.failDisk(name, r.pick(['read-error', 'write-error', 'hardware-error', 'not-ready', 'no-medium', 'reset']), {
        count: r.u8() & 3,
      }),
    () => m.setNetworkLink(r.flag()),
    () => m.detachNetwork(),
    () => m.attachNetwork({ mode: r.pick(['internal', 'user']), vlans: [10] }),
    () => {
      // It is the machine's when it runs.
      m.consoleInput(r.rest(32));
      g.wait(1);
    },
  ];
  asked(r.pick(works));
};

/** What comes from outside, for connections that there are, and for others. */
const outside: Do = (r, g) => {
  const known = g.memory.network;
  const id = known.length > 0 && r.below(8) !== 7 ? known[r.u8() % known.length] : r.u8() - 4;
  const data = new Uint8Array(r.u8() & 1 ? r.u16() : r.u8()).fill(7);
  const events: NetworkEvent[] = [
    { kind: 'connected', id },
    { kind: 'refused', id },
    { kind: 'data', id, data },
    { kind: 'written', id, bytes: number32(r) },
    { kind: 'end', id },
    { kind: 'reset', id },
    { kind: 'datagram', id, data },
    {
      kind: 'resolved',
      id,
      addresses: r.pick([
        ['203.0.113.9'],
        [],
        ['::1'],
        ['', '999.1.1.1', 'x'],
        Array.from({ length: 200 }, (_, n) => `203.0.113.${n}`),
      ]),
      status: r.pick(['ok', 'no-such-name', 'failed', 'refused']),
    },
    { kind: 'restarted' },
  ];
  g.machine.networkInput(r.pick(events));
};

const outsideSocket: Do = (r, g) => {
  const known = g.memory.sockets;
  const id = known.length > 0 && r.below(8) !== 7 ? known[r.u8() % known.length] : r.u8() - 8;
  const data = new Uint8Array(r.u8() & 1 ? r.u16() : r.u8()).fill(7);
  const events: SocketEvent[] = [
    { kind: 'connect', id, port: number32(r) },
    { kind: 'connected', id },
    { kind: 'refused', id },
    { kind: 'data', id, data },
    { kind: 'written', id, bytes: number32(r) },
    { kind: 'end', id },
    { kind: 'reset', id },
    { kind: 'restarted' },
  ];
  g.machine.socketInput(r.pick(events));
};

/** Registers of the debugger's side: what a person may set, any value. */
const debuggerWrites: Do = (r, g) => {
  const list = g.machine.hypervRegisters();
  const row = list[r.u16() % list.length];
  g.machine.writeHypervRegister(r.u8() & 1, row.name, harmlessNumber(anyValue(r)));
};

/** By kind of record, bits 6:0; those that are often worth it are there more than once. New ones go to the end: committed inputs name them by number. */
export const ACTIONS: readonly Do[] = [
  hypercall,
  hypercall,
  getRegister,
  setRegister,
  stimer,
  smccc,
  message,
  message,
  contact,
  connect,
  gpadl,
  gpadlBody,
  teardown,
  open,
  openAgain,
  close,
  packet,
  ringHeader,
  ringBytes,
  receive,
  signal,
  to('network', packets.nvspPacket),
  to('network', packets.rndisPacket),
  to('network', packets.rndisPacket),
  to('network', packets.rndisPacket),
  complete,
  to('scsi', packets.scsiPacket),
  to('scsi', packets.scsiPacket),
  answer,
  answer,
  to('video', packets.videoPacket),
  to('mouse', packets.mousePacket),
  to('keyboard', packets.keyboardPacket),
  to('balloon', packets.balloonPacket),
  to('pci', packets.pciPacket),
  nvmeSetUp,
  nvme,
  nvme,
  prpList,
  socket,
  socketConnect,
  mmio,
  mmio,
  sysreg,
  instruction,
  wait,
  wait,
  write,
  trigger,
  service,
  host,
  outside,
  outsideSocket,
  debuggerWrites,
];

/** A new record. */
export const freshAction = (random: Random): Action => ({
  // With bit 7 the next one follows at once.
  kind: random.below(ACTIONS.length) | (random.below(3) === 0 ? 128 : 0),
  args: random.bytes(random.below(8) === 0 ? random.below(200) : random.below(24)),
});
