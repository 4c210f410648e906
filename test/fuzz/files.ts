/**
 * Damaged files as targets of the fuzzer: disk images and kernels of which a record of the input changes a number somewhere in the
 * structures. Checksums are set right afterwards (or not), since behind them nobody expects anything bad.
 */
import { viewOf } from '../../emulator/base/struct.ts';
import { prepareBoot } from '../../emulator/boot/index.ts';
import { BOOT_KINDS, ConfigError } from '../../emulator/config.ts';
import { crc32c } from '../../emulator/host/crc32c.ts';
import type { ImageFile } from '../../emulator/host/disk.ts';
import { openImage } from '../../emulator/host/image.ts';
import { vhdChecksum } from '../../emulator/host/vhd.ts';
import { isVhdxDisk } from '../../emulator/host/vhdx.ts';
import { differencingVhdx } from '../../emulator/host/vhdx-writer.ts';
import { Ram } from '../../emulator/memory/ram.ts';
import { tinyElf, tinyImage } from '../unit/boot/guest-memory.ts';
import { disk, file, image } from '../unit/host/fixtures.ts';
import type { Target } from './fuzzer.ts';
import { type Action, actionsOf, type Random, Reader } from './input.ts';
import { anyValue } from './values.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

interface Base {
  name: string;
  bytes: Uint8Array;
  /** Where numbers are changed: from, and how many bytes. */
  regions: readonly (readonly [from: number, length: number])[];
  repair?(bytes: Uint8Array): void;
}

/** A new record: a place and a value. */
const freshEdit = (random: Random): Action => ({ kind: random.below(256), args: random.bytes(4 + random.below(10)) });

/** The base that the header names, with the changes that the records say. */
function damaged(bases: readonly Base[], input: Uint8Array): { base: Base; bytes: Uint8Array } {
  const { header, actions } = actionsOf(input);
  const base = bases[(header & 63) % bases.length];
  let bytes = base.bytes.slice();
  const view = viewOf(bytes);
  for (const { kind, args } of actions) {
    const r = new Reader(args);
    const [from, length] = base.regions[kind % base.regions.length];
    const how = r.u8();
    const size = 1 << (how & 3);
    // Structures are aligned, most often.
    const at = from + ((r.u16() % Math.max(1, length - size)) & (how & 4 ? -1 : -size));
    if (at < 0 || at + size > bytes.length) continue;
    const value = how & 8 ? view.getUint8(at) + r.u8() - 128 : anyValue(r, 8 * size);
    const little = (how & 16) === 0;
    const number = BigInt.asUintN(8 * size, BigInt(value));
    if (size === 8) view.setBigUint64(at, number, little);
    else if (size === 4) view.setUint32(at, Number(number), little);
    else if (size === 2) view.setUint16(at, Number(number), little);
    else view.setUint8(at, Number(number));
    if ((how & 0xe0) === 0xe0) bytes = bytes.slice(0, Math.max(1, bytes.length - (r.u16() << (how & 15))));
    if (bytes.length < base.bytes.length) return { base, bytes };
  }
  if (!(header & 64)) base.repair?.(bytes);
  return { base, bytes };
}

/** A complaint that is for a person: of the right kind, one line, with the name of the file. Its words are a feature. */
export function complaint(e: unknown, name: string): string {
  if (!(e instanceof ConfigError)) throw e;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be there
  if (/[\0-\x1f]/.test(e.message)) throw new Error(`a message with control characters: ${JSON.stringify(e.message)}`);
  if (e.message.length > 1000) throw new Error(`a message of ${e.message.length} characters: ${e.message.slice(0, 100)}`);
  if (!e.message.includes(name)) throw new Error(`a message that does not name ${name}: ${e.message}`);
  return e.message.replace(/0x[0-9a-f]+|[0-9a-f]{8}-[-0-9a-f]+|\d+/gi, '#').slice(0, 80);
}

// --- disk images ----------------------------------------------------------------------------------------------------------------

function repairVhd(bytes: Uint8Array): void {
  const view = viewOf(bytes);
  for (const [at, length, sum] of [
    [0, 512, 64],
    [bytes.length - 512, 512, 64],
    [512, 1024, 36],
  ]) {
    if (at < 0 || at + length > bytes.length) continue;
    view.setUint32(at + sum, vhdChecksum(bytes.subarray(at, at + length), sum));
  }
}

function repairVhdx(bytes: Uint8Array): void {
  const view = viewOf(bytes);
  const sum = (at: number, length: number): void => {
    if (at + length <= bytes.length) view.setUint32(at + 4, crc32c(bytes.subarray(at, at + length), 4), true);
  };
  for (const at of [64 * KIB, 128 * KIB]) sum(at, 4 * KIB);
  for (const at of [192 * KIB, 256 * KIB]) sum(at, 64 * KIB);
  for (let at = MIB; at + 64 <= 2 * MIB; at += 4 * KIB)
    if (view.getUint32(at) === 0x6c6f_6765) sum(at, Math.min(MIB, view.getUint32(at + 8, true)));
}

/** dynamic.vhdx as its writer left it when it crashed: an entry of its log waits, with zeros and a sector of data. */
function withLog(): Uint8Array {
  const out = image('dynamic.vhdx').slice();
  const view = viewOf(out);
  const guid = new Uint8Array(16).fill(5);
  for (const at of [64 * KIB, 128 * KIB]) out.set(guid, at + 48);
  const log = Number(view.getBigUint64(64 * KIB + 72, true));
  const text = (at: number, s: string): void => out.set(new TextEncoder().encode(s), at);
  text(log, 'loge');
  [8 * KIB, 0].forEach((w, i) => {
    view.setUint32(log + 8 + 4 * i, w, true);
  });
  view.setBigUint64(log + 16, 7n, true);
  view.setUint32(log + 24, 2, true);
  out.set(guid, log + 32);
  view.setBigUint64(log + 48, BigInt(out.length), true);
  view.setBigUint64(log + 56, BigInt(out.length), true);
  for (const [n, kind] of ['zero', 'desc'].entries()) {
    const at = log + 64 + 32 * n;
    text(at, kind);
    view.setBigUint64(at + 8, n === 0 ? 4096n : 0n, true);
    view.setBigUint64(at + 16, BigInt(out.length - 8192 + 4096 * n), true);
    view.setBigUint64(at + 24, 7n, true);
  }
  text(log + 4096, 'data');
  view.setUint32(log + 8188, 7, true);
  repairVhdx(out);
  return out;
}

function child(): Uint8Array {
  const parent = openImage(file(image('dynamic.vhdx'), 'parent'));
  const pieces = [
    ...differencingVhdx({
      parent,
      parentPaths: { relative_path: 'parent', absolute_win32_path: 'c:\\parent' },
      writeId: new Uint8Array(16).fill(8),
      diskId: new Uint8Array(16).fill(9),
      writes: [[0, new Uint8Array(4096).fill(1)]],
    }),
  ];
  const out = new Uint8Array(Math.ceil(Math.max(...pieces.map(([at, data]) => at + data.length)) / MIB) * MIB);
  for (const [at, data] of pieces) out.set(data, at);
  return out;
}

/** What a VHDX has from its second MiB on, as our writer and the fixtures place it. */
const vhdxRegions = (bytes: Uint8Array): [number, number][] => {
  const view = viewOf(bytes);
  const out: [number, number][] = [
    [64 * KIB, 96],
    [128 * KIB, 96],
    [192 * KIB, 96],
    [MIB, 192],
  ];
  for (let n = 0; n < 2; n++) {
    const at = Number(view.getBigUint64(192 * KIB + 32 + 32 * n, true));
    out.push([at, 256], [at + 64 * KIB, 256]);
  }
  return out;
};

const imageBases = (): Base[] => {
  const vhd = image('dynamic.vhd');
  const bases: Base[] = [
    {
      name: 'dynamic.vhd',
      bytes: vhd,
      regions: [
        [0, 96],
        [512, 640],
        [1536, 64],
        [vhd.length - 512, 96],
      ],
      repair: repairVhd,
    },
    { name: 'fixed.vhd', bytes: image('fixed.vhd').slice(-8 * KIB), regions: [[8 * KIB - 512, 96]], repair: repairVhd },
  ];
  for (const [name, bytes] of [
    ['dynamic.vhdx', image('dynamic.vhdx')],
    ['log.vhdx', withLog()],
    ['child.vhdx', child()],
  ] as const)
    bases.push({ name, bytes, regions: vhdxRegions(bytes), repair: repairVhdx });
  bases.push({ name: 'raw.img', bytes: disk().slice(0, 64 * KIB), regions: [[0, 512]] });
  return bases;
};

/** A disk is opened and read in places, or refused in words; a parent that it names is there. */
export class DamagedImages implements Target {
  readonly fresh = freshEdit;
  readonly #bases = imageBases();
  readonly #parent = image('dynamic.vhdx');

  run(input: Uint8Array): string[] {
    const { base, bytes } = damaged(this.#bases, input);
    let reads = 0;
    const f = file(bytes, base.name);
    const counted: ImageFile = {
      ...f,
      read: (offset, length) => {
        // What is read is what there is: an image cannot make us read it over and over.
        if (++reads > 100_000) throw new Error('more than 100000 reads');
        return f.read(offset, length);
      },
    };
    try {
      const d = openImage(counted, (paths) =>
        paths.some((p) => p.includes('parent')) ? file(this.#parent, 'parent') : undefined,
      );
      if (!(d.size > 0 && d.size % d.sectorSize === 0))
        throw new Error(`a disk of ${d.size} bytes in sectors of ${d.sectorSize}`);
      for (const place of [0, d.size >> 1, d.size - 64 * KIB, d.size - d.sectorSize]) {
        const offset = Math.max(0, place - (place % d.sectorSize));
        const length = Math.min(64 * KIB, d.size - offset);
        const data = d.read(offset, length);
        if (data && data.length !== length) throw new Error(`${data.length} bytes read instead of ${length}`);
      }
      let n = 0;
      if (isVhdxDisk(d)) for (const _ of d.own()) if (++n > 4) break;
      return [`${base.name} ${d.format} ${d.sectorSize}`];
    } catch (e) {
      return [
        `${base.name} ${complaint(e, base.name === 'child.vhdx' && e instanceof ConfigError && e.message.startsWith('parent') ? 'parent' : base.name)}`,
      ];
    }
  }
}

// --- kernels --------------------------------------------------------------------------------------------------------------------

function withPe(): Uint8Array {
  const out = tinyImage().slice();
  const view = viewOf(out);
  view.setUint32(60, 64, true);
  out.set([0x50, 0x45, 0, 0, 0x64, 0xaa, 2, 0], 64);
  view.setUint16(64 + 20, 160, true);
  return out;
}

const kernelBases = (): Base[] => {
  const data = new Uint8Array(64).fill(1);
  const all = (name: string, bytes: Uint8Array, length = 256): Base => ({
    name,
    bytes,
    regions: [[0, Math.min(length, bytes.length)]],
  });
  return [
    all('Image', tinyImage(), 64),
    all('Image with PE', withPe(), 384),
    all('vmlinux', tinyElf([{ vaddr: 0xffff_8000_0800_0000n, paddr: 0xffff_8000_0800_0000n, data }], 0xffff_8000_0800_0000n)),
    all(
      'linked',
      tinyElf(
        [
          { vaddr: 0x8_0000n, paddr: 0x8_0000n, data },
          { vaddr: 0x20_0000n, paddr: 0x20_0000n, data, memsz: 4096 },
        ],
        0x8_0000n,
      ),
    ),
    all('flat', new Uint8Array(128).fill(3)),
  ];
};

/** A kernel and an initrd are put into memory, or refused in words. */
export class DamagedKernels implements Target {
  readonly fresh = freshEdit;
  readonly #bases = kernelBases();
  readonly #ram = new Ram(64 * MIB, 65536);

  run(input: Uint8Array): string[] {
    const { base, bytes } = damaged(this.#bases, input);
    const [{ kind: boot = 0, args } = { kind: 0, args: new Uint8Array(0) }] = actionsOf(input).actions;
    const initrd = (input[0] ?? 0) & 128 ? args : undefined;
    try {
      const info = prepareBoot(
        {
          kernel: bytes,
          kernelName: base.name,
          ...(initrd ? { initrd, initrdName: base.name } : {}),
          append: '',
          cpus: 1,
          seed: 1,
          boot: BOOT_KINDS[boot & 1],
        },
        this.#ram,
      );
      if (!(info.pc >= 0 && info.pc < this.#ram.size)) throw new Error(`starts at ${info.pc}`);
      for (const p of info.placed)
        if (!(p.gpa >= 0 && p.gpa + p.size <= this.#ram.size)) throw new Error(`${p.name} at ${p.gpa}, ${p.size} bytes`);
      return [`${base.name} ${info.kernel.format}`];
    } catch (e) {
      return [`${base.name} ${complaint(e, base.name)}`];
    }
  }
}
