// `npm run package`: dist/hyperstep.vsix, from a staging folder that holds what ships and nothing else.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { ROOT, ensureDependencies, run } from './setup.mjs';

ensureDependencies();
const stage = path.join(ROOT, 'dist', 'package');
fs.rmSync(stage, { recursive: true, force: true });
fs.mkdirSync(stage, { recursive: true });
run(process.execPath, [path.join(ROOT, 'esbuild.mjs'), '--minify', '--outdir', path.join(stage, 'dist')], { cwd: ROOT });
for (const f of ['README.md', 'CHANGELOG.md', 'LICENSE', 'syntaxes'])
  fs.cpSync(path.join(ROOT, f), path.join(stage, f), { recursive: true });
const shot = path.join(ROOT, 'docs/screenshot.png');
if (fs.existsSync(shot)) {
  fs.mkdirSync(path.join(stage, 'docs'));
  fs.copyFileSync(shot, path.join(stage, 'docs/screenshot.png'));
}
// Everything is bundled; scripts and dependencies would only make vsce look for them.
const {
  scripts,
  dependencies,
  devDependencies,
  files,
  private: _,
  ...manifest
} = JSON.parse(fs.readFileSync(path.join(ROOT, 'package.json'), 'utf8'));
fs.writeFileSync(path.join(stage, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
const vsce = path.join(path.dirname(createRequire(import.meta.url).resolve('@vscode/vsce/package.json')), 'vsce');
const out = path.join(ROOT, 'dist', 'hyperstep.vsix');
const r = spawnSync(
  process.execPath,
  [vsce, 'package', '--no-dependencies', '--allow-missing-repository', '--no-rewrite-relative-links', '-o', out],
  { cwd: stage, encoding: 'utf8' },
);
if (r.status !== 0) {
  process.stderr.write(`${r.stdout}${r.stderr}`);
  process.exit(1);
}
console.log(`${path.relative(ROOT, out)}: ${(fs.statSync(out).size / 1e6).toFixed(2)} MB`);
