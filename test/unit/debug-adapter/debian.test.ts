import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, beforeEach, test } from 'node:test';
import { FetchError, fetchDebian } from '../../../debug-adapter/debian.ts';
import { fetchedFor } from '../../../debug-adapter/user-cache.ts';

/** An archive with one kernel, in place of apt-get, apt-cache and dpkg-deb: a package is a tar file. */
const TMP = fs.mkdtempSync(path.join(os.tmpdir(), 'hyperstep-debian-'));
const BIN = path.join(TMP, 'bin');
const CALLS = path.join(TMP, 'calls');
const before = { PATH: process.env.PATH, cache: process.env.HYPERSTEP_CACHE };
const SCRIPTS = {
  // Arguments of ours come last: [options] update, [options] download NAME=VERSION.
  'apt-get': `
    echo "apt-get $*" >> ${CALLS}
    case "$*" in
      indextargets*) echo http://archive.example.org/debian; exit 0 ;;
      *\\ update) case "$*" in *suite-experimental*) echo "E: not signed" >&2; exit 100 ;; esac; exit 0 ;;
    esac
    for last; do :; done
    name=\${last%%=*}
    case "$name" in
      *slow*) echo part > slow.deb; exec sleep 60 ;;
      *-dbg) mkdir -p usr/lib/debug/boot; echo symbols > usr/lib/debug/boot/vmlinux; tar -cf $name.deb usr; rm -r usr ;;
      linux-source-*)
        mkdir -p usr/src $name/init; echo 'int main;' > $name/init/main.c
        tar -cJf usr/src/$name.tar.xz $name; tar -cf $name.deb usr; rm -r usr $name ;;
    esac`,
  'apt-cache': `
    for last; do :; done
    say() { printf 'Package: %s\\nVersion: %s\\nSize: 1000\\n\\n' $last $1; }
    case "$last" in
      linux-image-6.1.0-50-cloud-arm64-dbg) say 6.1.176-1 ;;
      linux-image-6.1.0-slow-dbg) say 6.1.176-1 ;;
      linux-image-6.2.0-1-arm64-dbg) say 6.2.9-1 ;;
      linux-image-7.9-arm64-dbg) case "$*" in *suite-sid*) say 7.9-1 ;; *) exit 100 ;; esac ;;
      linux-source-6.1) say 6.1.190-1; say 6.1.176-1 ;;
      linux-source-6.2) say 6.2.10-1 ;;
      linux-source-7.9) say 7.9-1 ;;
      *) echo "E: No packages found" >&2; exit 100 ;;
    esac`,
  'dpkg-deb': 'mkdir -p "$3" && exec tar -xf "$2" -C "$3"',
};
fs.mkdirSync(BIN);
for (const [name, text] of Object.entries(SCRIPTS))
  fs.writeFileSync(path.join(BIN, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });

beforeEach(() => {
  process.env.PATH = `${BIN}:${before.PATH}`;
  process.env.HYPERSTEP_CACHE = fs.mkdtempSync(path.join(TMP, 'cache-'));
  fs.writeFileSync(CALLS, '');
});
after(() => {
  process.env.PATH = before.PATH;
  if (before.cache === undefined) delete process.env.HYPERSTEP_CACHE;
  else process.env.HYPERSTEP_CACHE = before.cache;
  fs.rmSync(TMP, { recursive: true });
});

const quiet = { source: true, progress: () => {} };
const RELEASE = '6.1.0-50-cloud-arm64';
const left = (): string[] => fs.readdirSync(path.join(process.env.HYPERSTEP_CACHE ?? '', 'debian')).sort();

test('debug information and sources of one version are fetched, with progress, and then are there', async () => {
  const steps: string[] = [];
  const { folder, noSource } = await fetchDebian(RELEASE, { source: true, progress: (text) => steps.push(text) });
  assert.equal(noSource, undefined);
  assert.equal(fs.readFileSync(path.join(folder, 'usr/lib/debug/boot/vmlinux'), 'utf8'), 'symbols\n');
  assert.equal(fs.readFileSync(path.join(folder, 'source/init/main.c'), 'utf8'), 'int main;\n');
  assert.deepEqual(
    [...new Set(steps)],
    [
      'Reading the lists of packages',
      'Downloading linux-image-6.1.0-50-cloud-arm64-dbg (0 MB)',
      'Unpacking linux-image-6.1.0-50-cloud-arm64-dbg',
      'Downloading linux-source-6.1 (0 MB)',
      'Unpacking linux-source-6.1',
      'Unpacking linux-source-6.1.tar.xz',
    ],
  );
  assert.match(fs.readFileSync(CALLS, 'utf8'), /APT::Architecture=arm64 .*download linux-source-6\.1=6\.1\.176-1$/m);
  assert.deepEqual(left(), [RELEASE]);
  assert.deepEqual(fetchedFor(RELEASE), { folder, source: path.join(folder, 'source') });
  fs.writeFileSync(CALLS, '');
  assert.deepEqual(await fetchDebian(RELEASE, quiet), { folder });
  assert.equal(fs.readFileSync(CALLS, 'utf8'), '', 'what is there is not fetched again');
});

test('without sources of that version there are symbols, and why there are no sources', async () => {
  const { folder, noSource } = await fetchDebian('6.2.0-1-arm64', quiet);
  assert.equal(noSource, 'linux-source-6.2 is there in version 6.2.10-1, not in 6.2.9-1');
  assert.equal(fetchedFor('6.2.0-1-arm64')?.source, undefined);
  assert.ok(fs.existsSync(path.join(folder, 'usr')));
  await fetchDebian(RELEASE, { ...quiet, source: false });
  assert.equal(fetchedFor(RELEASE)?.source, undefined);
  await fetchDebian(RELEASE, quiet);
  assert.ok(fetchedFor(RELEASE)?.source, 'the sources alone, later');
});

test('a kernel of another suite than the own ones is found there', async () => {
  await fetchDebian('7.9-arm64', quiet);
  const calls = fs.readFileSync(CALLS, 'utf8');
  assert.match(calls, /suite-sid.* update$/m);
  assert.doesNotMatch(calls, /experimental/);
});

test('what there is no package of, and no apt, are said in one line; nothing is left', async () => {
  const refused = (release: string) =>
    fetchDebian(release, quiet).then(
      () => assert.fail('it was fetched'),
      (error: unknown) => {
        assert.ok(error instanceof FetchError);
        return error.message;
      },
    );
  assert.match(await refused('6.1.0-1-own'), /^there is no package linux-image-6\.1\.0-1-own-dbg: is this Debian's kernel/);
  assert.match(await refused('../../etc'), /is not a kernel's release/);
  process.env.PATH = path.join(TMP, 'nothing');
  assert.equal(await refused(RELEASE), 'apt-get is not on this machine');
});

test('cancelled in the middle of a download: it ends at once, and nothing is left', { timeout: 30_000 }, async () => {
  const cancel = new AbortController();
  const progress = (text: string, part?: number): void => {
    if (text.startsWith('Downloading') && part !== undefined && part > 0) cancel.abort();
  };
  await assert.rejects(fetchDebian('6.1.0-slow', { source: true, signal: cancel.signal, progress }), { message: 'cancelled' });
  assert.deepEqual(left(), []);
});
