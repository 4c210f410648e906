import assert from 'node:assert/strict';
import fs from 'node:fs';
import { before, describe, test } from 'node:test';
import { debianGuest } from '../../../scripts/debian-guest.mjs';
import { Btf } from '../../../debug-adapter/symbols/btf.ts';
import { findExports, findKallsyms } from '../../../debug-adapter/symbols/kallsyms.ts';
import { imageHeader, readKernelImage } from '../../../debug-adapter/symbols/kernel-image.ts';

/** Any place: the table must not depend on where the image is. */
const BASE = 0xffff_c89a_63e0_0000n;

// Three layouts of kallsyms: 6.1 (offsets first), 6.12 (offsets last), 7.2 (offsets relative to themselves).
for (const suite of ['bookworm', 'trixie', 'sid'])
  describe(`the kernel of ${suite}`, () => {
    let bytes: Uint8Array;
    before(async () => {
      bytes = new Uint8Array(fs.readFileSync((await debianGuest({ suite })).kernel));
    });

    test('kallsyms is found by structure, and agrees with the table of exported symbols', () => {
      const symbols = findKallsyms({ bytes, base: BASE })?.symbols ?? [];
      assert.ok(symbols.length > 40_000, `${symbols.length} symbols`);
      for (let i = 1; i < symbols.length; i++) assert.ok(symbols[i].address >= symbols[i - 1].address, 'ascending');
      const stext = symbols.find((s) => s.name === '_stext');
      assert.equal(stext?.address, BASE + 0x10000n, '_stext is a segment above _text');
      // An independent source: entries of EXPORT_SYMBOL are place-relative words.
      const byName = new Map<string, Set<bigint>>();
      for (const s of symbols) byName.set(s.name, (byName.get(s.name) ?? new Set()).add(s.address));
      const exported = findExports({ bytes, base: BASE });
      assert.ok(exported.length > 9000, `${exported.length} exports`);
      const functions = exported.filter((e) => byName.has(e.name));
      assert.ok(functions.length > 8000);
      const wrong = functions.filter((e) => !byName.get(e.name)?.has(e.address));
      assert.deepEqual(
        wrong.map((e) => e.name),
        [],
      );
      assert.ok(
        exported.some((e) => e.name === 'ms_hyperv'),
        'data that only the export table names',
      );
    });

    test('the image tells release, page size and types', () => {
      const image = readKernelImage({ bytes, base: BASE });
      assert.match(image.release ?? '', /^\d+\.\d+\.\d+.*-cloud-arm64$/);
      assert.equal(image.pageSize, 4096);
      assert.ok(image.size >= bytes.length);
      const members =
        Btf.find(bytes)
          ?.members('ms_hyperv_info')
          ?.map((m) => m.name) ?? [];
      assert.deepEqual(members.slice(0, 2), ['features', 'priv_high']);
      const regs = Btf.find(bytes)?.members('pt_regs') ?? [];
      assert.equal(regs.find((m) => m.name === 'pstate')?.offset, 0x108);
      assert.ok([0x128, 0x130].includes(regs.find((m) => m.name === 'stackframe')?.offset ?? 0), 'where the stack walk looks');
    });

    test('relocated by KASLR, the image tells where it was linked to run', () => {
      const moved = relocate(bytes, BASE);
      const image = readKernelImage({ bytes: moved, base: BASE });
      assert.equal(image.linkBase, linkBase(bytes));
      assert.equal(image.kaslrOffset, BASE - linkBase(bytes));
      assert.equal(image.symbols.find((s) => s.name === '_stext')?.address, BASE + 0x10000n);
    });
  });

const view = (b: Uint8Array) => new DataView(b.buffer, b.byteOffset, b.byteLength);

/** Link address by the kernel's own rule (KIMAGE_VADDR): above 128 MiB of modules up to 6.4, 2 GiB since. */
function linkBase(bytes: Uint8Array): bigint {
  const old = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).includes('Linux version 6.1.');
  return old ? 0xffff_8000_0800_0000n : 0xffff_8000_8000_0000n;
}

/** What the startup code does, in the simplest way: RELA entries, and RELR by adding the offset to every kernel address. */
function relocate(bytes: Uint8Array, base: bigint): Uint8Array {
  const out = bytes.slice();
  const from = view(bytes);
  const to = view(out);
  const link = linkBase(bytes);
  const size = BigInt(imageHeader(bytes)?.imageSize ?? 0);
  const inside = (v: bigint) => v >= link && v < link + size;
  const rela = new Set<number>();
  for (let at = 0; at + 24 <= bytes.length; at += 8) {
    const place = from.getBigUint64(at, true);
    if (from.getUint32(at + 8, true) !== 0x403 || from.getUint32(at + 12, true) !== 0 || !inside(place)) continue;
    to.setBigUint64(Number(place - link), from.getBigUint64(at + 16, true) - link + base, true);
    for (let i = 0; i < 24; i += 8) rela.add(at + i);
  }
  if (rela.size > 10_000) return out;
  // RELR: an address, then bitmaps; found as the longest ascending run that has bitmaps in it.
  for (let at = 0; at + 16 <= bytes.length; at += 8) {
    const first = from.getBigUint64(at, true);
    if (!inside(first) || first & 1n || !(from.getUint32(at + 8, true) & 1)) continue;
    let end = at;
    let last = 0n;
    for (; end + 8 <= bytes.length; end += 8) {
      const v = from.getBigUint64(end, true);
      if (!(v & 1n) && (!inside(v) || v <= last)) break;
      if (!(v & 1n)) last = v;
    }
    if (end - at < 8 * 1000) {
      at = end;
      continue;
    }
    for (let next = 0n, i = at; i < end; i += 8) {
      const v = from.getBigUint64(i, true);
      const places: bigint[] = [];
      if (!(v & 1n)) {
        places.push(v);
        next = v + 8n;
      } else {
        for (let b = 1n; b < 64n; b++) if ((v >> b) & 1n) places.push(next + 8n * (b - 1n));
        next += 63n * 8n;
      }
      for (const place of places) {
        const p = Number(place - link);
        if (p >= 0 && p + 8 <= bytes.length) to.setBigUint64(p, from.getBigUint64(p, true) - link + base, true);
      }
    }
    return out;
  }
  throw new Error('no relocations');
}

test('bytes that are no kernel have no symbols', () => {
  assert.equal(findKallsyms({ bytes: new Uint8Array(1 << 20), base: BASE }), undefined);
  assert.deepEqual(findExports({ bytes: new Uint8Array(1 << 20), base: BASE }), []);
  const noise = new Uint8Array(1 << 20);
  for (let i = 0, x = 1; i < noise.length; i++) {
    x = (Math.imul(x, 1103515245) + 12345) >>> 0;
    noise[i] = x >>> 24;
  }
  assert.equal(findKallsyms({ bytes: noise, base: BASE }), undefined);
  assert.equal(Btf.find(noise), undefined);
  assert.equal(imageHeader(noise), undefined);
});
