/**
 * Values of launch.json that nobody means: a launch ends in one line that names the setting, or in a machine. With FUZZ_SECONDS=N
 * others, for N seconds.
 */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import zlib from 'node:zlib';
import { after, test } from 'node:test';
import type { Program, Session } from '../../debug-adapter/session.ts';
import { launching } from '../../debug-adapter/requests/launch.ts';
import { unwrapKernel } from '../../debug-adapter/kernel-file.ts';
import { UserError } from '../../debug-adapter/user-error.ts';
import { ConfigError } from '../../emulator/index.ts';
import { tinyImage } from '../unit/boot/guest-memory.ts';
import { Random } from './input.ts';

const SECONDS = Number(process.env.FUZZ_SECONDS ?? 0);
const SEED = Number(process.env.FUZZ_SEED ?? (SECONDS ? Date.now() % 2 ** 31 : 1));
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'hyperstep-launch-'));
after(() => fs.rmSync(folder, { recursive: true }));
const write = (name: string, bytes: Uint8Array): string => {
  const file = path.join(folder, name);
  fs.writeFileSync(file, bytes);
  return file;
};
const KERNEL = write('Image', tinyImage());
const EMPTY = write('empty', new Uint8Array(0));
const TEXT = write('text.vhdx', new TextEncoder().encode('no image'));

/** One line for a person. */
function isComplaint(e: unknown): e is Error {
  if (!(e instanceof UserError || e instanceof ConfigError)) return false;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be there
  return e.message !== '' && !/[\0-\x1f]/.test(e.message) && e.message.length < 2500;
}

const SCALARS: readonly unknown[] = [
  undefined,
  null,
  true,
  false,
  0,
  1,
  -1,
  1.5,
  64,
  4096,
  2 ** 31,
  2 ** 53,
  1e300,
  Number.NaN,
  '',
  'x',
  '0',
  '-1',
  '0x',
  '0x1000',
  'constructor',
  '__proto__',
  'toString',
  '../../..',
  '/',
  '/dev/null',
  folder,
  EMPTY,
  TEXT,
  KERNEL,
  'a'.repeat(400),
  '\0\u001b[31m',
  '1024x768',
  '99999x1',
  'hyperstep',
  'none',
  'user',
  'internal',
  'folder',
  'nvme',
  '5.3',
  [],
  {},
  [null],
  [[]],
  ['x'],
  [1, 2, 3],
  { a: 1 },
  { path: KERNEL },
  { path: TEXT },
  { path: 1 },
];
const KEYS: Readonly<Record<string, readonly string[]>> = {
  disks: ['path', 'bus', 'readOnly', 'dvd', 'writeTo', 'constructor', 'x'],
  network: ['mode', 'allow', 'mac', 'vlans', 'names', 'capture', 'hasOwnProperty'],
  sockets: ['mode', 'folder', 'guestPorts', 'toString'],
  keyValuePairs: ['role', '', '__proto__', 'a'.repeat(300)],
  copyFiles: ['from', 'to', 'overwrite', 'createPath', 'valueOf'],
  platformOverrides: ['vmbusPpi', 'conduits', 'vpIndex', 'firstRelid', 'counterFrequency', 'HvRegisterVpIndex', 'constructor'],
  sourceMap: ['/build', ''],
};
const NAMES = [
  'kernel',
  'initrd',
  'append',
  'cpu',
  'boot',
  'load',
  'platform',
  'vmbusVersion',
  'display',
  'consoleLog',
  'monitorPages',
  'stopOnEntry',
  'stopOnCrash',
  'memory',
  'maxMemory',
  'cpus',
  'symbols',
  'stopOnHypercalls',
  ...Object.keys(KEYS),
];

function settingOf(r: Random, name: string): unknown {
  const keys = KEYS[name];
  if (!keys || r.below(4) === 0) return r.pick(SCALARS);
  const one = (): Record<string, unknown> =>
    Object.fromEntries(Array.from({ length: 1 + r.below(3) }, () => [r.pick(keys), r.pick(SCALARS)]));
  return name === 'disks' || name === 'copyFiles' ? Array.from({ length: 1 + r.below(2) }, one) : one();
}

/** What launch does with a session that is nobody's. */
async function launch(args: Record<string, unknown>): Promise<string> {
  let made: Promise<void> = Promise.resolve();
  const nothing = (): void => {};
  const session = {
    launched: false,
    hypercallStops: new Map(),
    trace: new Map(),
    ...{
      startProgress: nothing,
      endProgress: nothing,
      say: nothing,
      after: nothing,
      adopt: nothing,
      resolveBreakpoints: nothing,
    },
    prepare: (program: Program, make: () => Promise<void>) => {
      made = make().finally(() => {
        program.disks.close();
        program.network.close();
        program.sockets.close();
      });
      return made;
    },
  };
  try {
    await launching.launch(session as unknown as Session, args as unknown as Parameters<typeof launching.launch>[1]);
    await made;
    return 'launched';
  } catch (e) {
    if (!isComplaint(e))
      throw Object.assign(new Error(`${JSON.stringify(args).slice(0, 500)}: ${(e as Error)?.stack}`), { cause: e });
    return e.message;
  }
}

test('launch.json: whatever stands in it, a machine or a line that says what is wrong', {
  timeout: Number.POSITIVE_INFINITY,
}, async (t) => {
  const r = new Random(SEED);
  const end = Date.now() + 1000 * SECONDS;
  const said = new Set<string>();
  let launched = 0;
  let n = 0;
  // Some that are right but for one thing, so that what comes later is reached too; the memory is small, to be quick.
  for (; SECONDS ? Date.now() < end : n < 300; n++) {
    const args: Record<string, unknown> = { kernel: n % 3 === 0 ? KERNEL : EMPTY, memory: 64 };
    for (let i = 1 + r.below(3); i > 0; i--) {
      const name = r.pick(NAMES);
      args[name] = settingOf(r, name);
    }
    // Files of the test's own folder alone are written.
    if ('consoleLog' in args && typeof args.consoleLog === 'string')
      args.consoleLog = path.join(folder, 'console', args.consoleLog.slice(0, 20));
    const what = await launch(args);
    if (what === 'launched') launched++;
    said.add(what.replace(/\d+/g, '#').slice(0, 60));
  }
  t.diagnostic(`${n} launches, seed ${SEED}: ${launched} machines, ${said.size} different complaints`);
  assert.ok(said.size > 40);
});

test('compressed kernels that are damaged, or say that they are large, are refused in a line', async () => {
  const r = new Random(SEED);
  const plain = tinyImage();
  const gz = zlib.gzipSync(plain);
  const zboot = new Uint8Array(64 + gz.length);
  zboot.set([0x4d, 0x5a, 0, 0, 0x7a, 0x69, 0x6d, 0x67, 64, 0, 0, 0]);
  new DataView(zboot.buffer).setUint32(12, gz.length, true);
  zboot.set(new TextEncoder().encode('gzip'), 24);
  zboot.set(gz, 64);
  // A zstd frame of one raw block, and one that says it has 2^60 bytes; an XZ header.
  const zstd = Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0x20, 4, 0x21, 0, 0, 1, 2, 3, 4);
  const large = Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0x21, 0, 0, 1, 2, 3, 4);
  const window = Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0, 0xff, 0x21, 0, 0, 1, 2, 3, 4);
  const xz = Uint8Array.of(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0, 0, 4, 0xe6, 0xd6, 0xb4, 0x46, 2, 0, 0x21, 1, 0x1c, 0, 0, 0);
  const bases = [gz, zboot, zstd, large, window, xz];
  let refused = 0;
  for (let n = 0; n < 400; n++) {
    const bytes = Uint8Array.from(bases[n % bases.length]);
    if (n >= bases.length)
      for (let i = 1 + r.below(4); i > 0; i--) bytes[r.below(Math.min(bytes.length, 96))] = r.below(3) ? r.below(256) : 0xff;
    const file = n % 5 === 4 ? bytes.subarray(0, r.below(bytes.length)) : bytes;
    try {
      await unwrapKernel(file, 'vmlinuz');
    } catch (e) {
      refused++;
      assert.ok(
        isComplaint(e) && e.message.includes('vmlinuz'),
        `${Buffer.from(file).toString('hex').slice(0, 200)}: ${(e as Error)?.stack}`,
      );
    }
  }
  assert.ok(refused > 100, `${refused} refused`);
});
