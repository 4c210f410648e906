import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

const ROOT = path.resolve(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), '..');

const walk = (dir: string): string[] =>
  fs.readdirSync(path.join(ROOT, dir), { withFileTypes: true }).flatMap((e) => {
    const p = `${dir}/${e.name}`;
    return e.isDirectory() ? walk(p) : p.endsWith('.ts') && !p.endsWith('.d.ts') ? [p] : [];
  });

interface Import {
  from: string;
  to: string;
  typeOnly: boolean;
}

/** Every import of a file: relative ones resolved to repository paths, packages by name. */
function importsOf(file: string): Import[] {
  const text = fs.readFileSync(path.join(ROOT, file), 'utf8');
  const out: Import[] = [];
  const statement =
    /^\s*(?:import|export)\s+(type\s+)?(?:[^'";]*?\sfrom\s+)?['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]\s*\)/gm;
  for (const m of text.matchAll(statement)) {
    const spec = m[2] ?? m[3];
    const to = spec.startsWith('.') ? path.posix.normalize(path.posix.join(path.posix.dirname(file), spec)) : spec;
    // `import('x').Type` in a type position is written after a colon or in angle brackets: treated as a type.
    out.push({
      from: file,
      to,
      typeOnly:
        Boolean(m[1]) ||
        (m[3] !== undefined &&
          /import\([^)]*\)\s*\./.test(m[0] + text.slice((m.index ?? 0) + m[0].length, (m.index ?? 0) + m[0].length + 1))),
    });
  }
  return out;
}

const files = ['emulator', 'debug-adapter', 'extension'].flatMap(walk);
const imports = files.flatMap(importsOf);

/** The part of the house a path belongs to. */
function part(p: string): string {
  const m = /^emulator\/([a-z0-9-]+)(\/|\.ts$)/.exec(p);
  if (m) return m[2] === '/' ? `emulator/${m[1]}` : 'emulator';
  return p.split('/')[0];
}

/** What a part of the emulator may import (architecture §2). */
const EMULATOR: Record<string, string[]> = {
  'emulator/base': [],
  'emulator/memory': ['emulator/base'],
  'emulator/cpu': ['emulator/memory', 'emulator/base'],
  'emulator/platform': ['emulator/memory', 'emulator/base'],
  'emulator/hyperv': ['emulator/memory', 'emulator/base'],
  'emulator/network': ['emulator/base'],
  'emulator/vmbus': ['emulator/network', 'emulator/hyperv', 'emulator/memory', 'emulator/base', 'emulator/config.ts'],
  'emulator/boot': ['emulator/memory', 'emulator/base', 'emulator/platform/addresses.ts', 'emulator/config.ts'],
  'emulator/host': [
    'emulator/network',
    'emulator/base',
    'emulator/config.ts',
    'node:child_process',
    'node:dgram',
    'node:dns',
    'node:events',
    'node:fs',
    'node:net',
    'node:path',
    'node:stream',
  ],
};
/** Types of the public API may be named below it: index.ts declares what debuggers see, parts fill it. */
const TYPES_FROM_ABOVE = new Set(['emulator/index.ts', 'emulator/config.ts']);

test('the emulator imports only downwards', () => {
  const wrong = imports.filter((i) => {
    const from = part(i.from);
    const allowed = EMULATOR[from];
    if (!allowed || part(i.to) === from) return false;
    if (i.typeOnly && TYPES_FROM_ABOVE.has(i.to)) return false;
    return !allowed.some((a) => i.to === a || part(i.to) === a);
  });
  assert.deepEqual(
    wrong.map((i) => `${i.from} -> ${i.to}`),
    [],
  );
});

test('nothing in the emulator but host/ knows Node, packages, the clock or randomness', () => {
  const outside = imports.filter(
    (i) => part(i.from).startsWith('emulator') && part(i.from) !== 'emulator/host' && !i.to.startsWith('emulator/'),
  );
  assert.deepEqual(
    outside.map((i) => `${i.from} -> ${i.to}`),
    [],
  );
  const used = files
    .filter((f) => f.startsWith('emulator/') && !f.startsWith('emulator/host/'))
    .flatMap((f) => {
      const code = fs.readFileSync(path.join(ROOT, f), 'utf8').replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '');
      return [
        ...code.matchAll(
          /\b(Date\.now|new Date|Math\.random|performance\.now|setTimeout|setInterval|setImmediate|process\.|Buffer\b|await )/g,
        ),
      ].map((m) => `${f}: ${m[0]}`);
    });
  assert.deepEqual(used, []);
});

/** What needs Node is not in the index: the emulator as such runs in a browser. */
const HOST_NETWORK = 'emulator/host/network/index.ts';
/** What makes machines: the index without it loads in no time. */
const LOAD = 'emulator/load.ts';

test('the debug adapter sees the emulator only through its index and what makes machines, the host network and base', () => {
  const wrong = imports.filter(
    (i) =>
      part(i.from) === 'debug-adapter' &&
      i.to.startsWith('emulator/') &&
      i.to !== 'emulator/index.ts' &&
      i.to !== LOAD &&
      i.to !== HOST_NETWORK &&
      part(i.to) !== 'emulator/base',
  );
  assert.deepEqual(
    wrong.map((i) => `${i.from} -> ${i.to}`),
    [],
  );
});

test('a debug session loads the machine when it makes one, not before it answers the editor', () => {
  const statically = new Map<string, string[]>();
  for (const file of files) {
    const text = fs.readFileSync(path.join(ROOT, file), 'utf8').replace(/\bimport\(/g, 'later(');
    const specs = [...text.matchAll(/^\s*(?:import|export)\s+(?!type\b)(?:[^'";]*?\sfrom\s+)?['"](\.[^'"]+)['"]/gm)];
    statically.set(
      file,
      specs.map((m) => path.posix.normalize(path.posix.join(path.posix.dirname(file), m[1]))),
    );
  }
  const loaded = new Set<string>();
  const load = (file: string): void => {
    if (loaded.has(file)) return;
    loaded.add(file);
    for (const to of statically.get(file) ?? []) load(to);
  };
  load('debug-adapter/main.ts');
  assert.deepEqual(
    [...loaded].filter((f) => f === LOAD || f === 'emulator/machine.ts' || f.startsWith('emulator/cpu/')),
    [],
  );
});

test('inside the debug adapter: requests -> session -> {stops, linux, expression} -> types -> symbols', () => {
  const layer = (p: string): number => {
    if (p.startsWith('debug-adapter/symbols/')) return 0;
    if (p.startsWith('debug-adapter/types/')) return 1;
    if (/^debug-adapter\/(stops|timeline|linux\/|expression\/)/.test(p)) return 2;
    if (p.startsWith('debug-adapter/session.ts')) return 3;
    if (p.startsWith('debug-adapter/requests/')) return 4;
    return -1;
  };
  const wrong = imports.filter(
    (i) => layer(i.from) >= 0 && layer(i.to) > layer(i.from) && !i.typeOnly && !(layer(i.from) === 3 && layer(i.to) === 4),
  );
  assert.deepEqual(
    wrong.map((i) => `${i.from} -> ${i.to}`),
    [],
  );
});

test("only the extension imports 'vscode', and it takes nothing but types from the adapter's protocol", () => {
  const vscode = imports.filter((i) => i.to === 'vscode' && part(i.from) !== 'extension');
  assert.deepEqual(
    vscode.map((i) => i.from),
    [],
  );
  const wrong = imports.filter(
    (i) =>
      part(i.from) === 'extension' &&
      /^(debug-adapter|emulator)\//.test(i.to) &&
      !(i.to === 'debug-adapter/protocol.ts' && i.typeOnly),
  );
  assert.deepEqual(
    wrong.map((i) => `${i.from} -> ${i.to}`),
    [],
  );
});

test('no import cycles', () => {
  const edges = new Map<string, string[]>();
  for (const i of imports) if (!i.typeOnly) edges.set(i.from, [...(edges.get(i.from) ?? []), i.to]);
  const done = new Set<string>();
  const cycles: string[] = [];
  const visit = (file: string, path: string[]): void => {
    if (path.includes(file)) {
      cycles.push([...path.slice(path.indexOf(file)), file].join(' -> '));
      return;
    }
    if (done.has(file)) return;
    for (const to of edges.get(file) ?? []) visit(to, [...path, file]);
    done.add(file);
  };
  for (const f of files) visit(f, []);
  assert.deepEqual(cycles, []);
});
