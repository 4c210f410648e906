import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

const HERE = path.dirname(new URL(import.meta.url).pathname);
const ROOT = path.resolve(HERE, '../../..');
const require = createRequire(import.meta.url);
const GRAMMARS = ['a64-assembly', 'hyperstep-trace'].map((g) => `syntaxes/${g}.tmLanguage.json`);
const run = (files: string[]) =>
  spawnSync(
    process.execPath,
    [require.resolve('vscode-tmgrammar-test/dist/unit.js'), ...GRAMMARS.flatMap((g) => ['-g', g]), ...files],
    { cwd: ROOT, encoding: 'utf8' },
  );

for (const sample of fs.readdirSync(HERE).filter((f) => !f.endsWith('.ts')))
  test(`grammar: ${sample} is scoped as its comments say`, () => {
    const r = run([path.join('test/unit/syntaxes', sample)]);
    assert.equal(r.status, 0, r.stdout + r.stderr);
  });

test('a wrong scope is noticed', () => {
  const dir = fs.mkdtempSync(path.join(ROOT, 'test', '.grammar-'));
  try {
    const file = path.join(dir, 'wrong.S');
    fs.writeFileSync(file, '// SYNTAX TEST "source.a64" "wrong on purpose"\n\n    hvc #1\n//  ^^^ comment.line\n');
    assert.notEqual(run([path.relative(ROOT, file)]).status, 0);
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
});
