import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { unwrapKernel, ZbootHeader } from '../../../debug-adapter/kernel-file.ts';
import { concat } from '../../../emulator/boot/acpi/table.ts';
import { ImageHeader } from '../../../emulator/boot/arm64-image.ts';

const base64 = (s: string): Uint8Array => new Uint8Array(Buffer.from(s, 'base64'));
/** 4 KiB: a header with image_size 4096 and page size bits, no PE. What the packed forms below hold. */
const IMAGE = concat(ImageHeader.make({ magic: 'ARMd', imageSize: 4096n, flags: 0xan }), new Uint8Array(4096 - ImageHeader.size));
/** Made with `xz --check=crc32`, the same with its ARM64 filter, and `zstd -19`. */
const XZ = base64(
  '/Td6WFoAAAFpIt42AgAhARwAAAAQz1jM4A//ACddAABtgFwBvdvUCegZPcSC9oXDxQPrywE8uogjahT4+/uLHJu6WNJNAAAA8VewTwABP4AgAAAACX6tJz4wDYsCAAAAAAFZWg==',
);
const XZ_ARM64 = base64(
  '/Td6WFoAAAFpIt42AgEKACEBFgB95z8l4A//ACddAABtgFwBvdvUCegZPcSC9oXDxQPrywE8uogjahT4+/uLHJu6WNJNAAAA8VewTwABP4AgAAAACX6tJz4wDYsCAAAAAAFZWg==',
);
const ZSTD = base64('KLUv/WQAD80AAHgAEAAAAAAAAAoAQVJNZAADEADA97V4yBXiZwTv');
const GZIP = new Uint8Array(gzipSync(IMAGE));

const zboot = (payload: Uint8Array, compression: string): Uint8Array =>
  concat(
    ZbootHeader.make({ mz: 0x5a4d, magic: 'zimg', payloadOffset: 100, payloadSize: payload.length, compression }),
    new Uint8Array(36),
    payload,
    new Uint8Array(8),
  );

test('every packing of a kernel gives the same plain Image', async () => {
  const forms = [
    IMAGE,
    GZIP,
    XZ,
    ZSTD,
    zboot(GZIP, 'gzip'),
    zboot(XZ, 'xzkern'),
    zboot(ZSTD, 'zstd'),
    new Uint8Array(gzipSync(zboot(ZSTD, 'zstd'))),
  ];
  for (const form of forms) assert.deepEqual(new Uint8Array(await unwrapKernel(form, 'k')), IMAGE);
});

test('a file that is not packed comes back untouched, for the machine to judge', async () => {
  const file = Uint8Array.from('no kernel', (c) => c.charCodeAt(0));
  assert.equal(await unwrapKernel(file, 'k'), file);
});

test('damage is told by the name of the file and the fact', async () => {
  const cases: [file: Uint8Array, message: RegExp][] = [
    [GZIP.subarray(0, 40), /^k is truncated or damaged: its gzip data cannot be unpacked/],
    [XZ.subarray(0, 60), /^k is truncated or damaged: its xzkern data/],
    [ZSTD.subarray(0, 20), /^k is truncated or damaged: its zstd data/],
    [XZ_ARM64, /^k cannot be unpacked: it uses an XZ filter that is not known here/],
    [zboot(GZIP, 'gzip').subarray(0, 110), /^k is truncated: its compressed kernel ends at byte \d+, the file at 110$/],
    [zboot(GZIP, 'lzo'), /^k is an EFI zboot image compressed with lzo; gzip, zstd and xz can be read$/],
  ];
  for (const [file, message] of cases) await assert.rejects(unwrapKernel(file, 'k'), { message });
});
