// Bundles everything that ships. `--minify` without source maps for the package, `--outdir DIR` (default dist), `--watch` while
// working on the extension.
import fs from 'node:fs';
import path from 'node:path';
import { build, context } from 'esbuild';

const args = process.argv.slice(2);
const minify = args.includes('--minify');
const outdir = args.includes('--outdir') ? args[args.indexOf('--outdir') + 1] : 'dist';

/** CommonJS dependencies inside ESM bundles call `require` for Node's own modules. */
const banner = {
  js: "import { createRequire as __createRequire } from 'node:module';\nconst require = __createRequire(import.meta.url);",
};

const common = {
  bundle: true,
  platform: 'node',
  target: 'node20',
  sourcemap: minify ? false : 'linked',
  minify,
  logLevel: 'warning',
  legalComments: 'none',
};

const bundles = [
  // The extension host loads CommonJS.
  {
    ...common,
    entryPoints: ['extension/extension.ts'],
    outfile: path.join(outdir, 'extension.cjs'),
    format: 'cjs',
    external: ['vscode'],
  },
  // Pages of webviews: a script each, in a browser.
  {
    ...common,
    platform: 'browser',
    target: 'es2022',
    entryPoints: { display: 'extension/webviews/display/page.ts' },
    outdir,
    format: 'iife',
  },
  {
    ...common,
    entryPoints: {
      'debug-adapter': 'debug-adapter/start.ts',
      cli: 'debug-adapter/cli.ts',
      // A thread of its own: debug-adapter/symbols/dwarf/debug-info.ts starts it by this name.
      'symbol-worker': 'debug-adapter/symbols/dwarf/worker.ts',
    },
    outdir,
    outExtension: { '.js': '.mjs' },
    format: 'esm',
    banner,
    splitting: true,
    chunkNames: 'chunk-[hash]',
  },
];

// Chunks have hashed names: those of earlier builds go, but only after the new ones are there, since something may run from them.
const before = fs.existsSync(outdir) ? fs.readdirSync(outdir).filter((f) => /^chunk-/.test(f)) : [];
const made = new Set();
for (const options of bundles) {
  if (args.includes('--watch')) {
    await (await context(options)).watch();
    continue;
  }
  const { metafile } = await build({ ...options, metafile: true });
  for (const f of Object.keys(metafile.outputs)) made.add(path.basename(f));
}
if (made.size) for (const f of before) if (!made.has(f)) fs.rmSync(path.join(outdir, f), { force: true });

// The disassembler (debug-adapter/disassembler.ts) is not bundled: it is CommonJS that loads its WebAssembly from its own folder.
for (const [file, as] of [
  ['capstone.js', 'capstone.cjs'],
  ['capstone.wasm', 'capstone.wasm'],
])
  fs.copyFileSync(new URL(`node_modules/@alexaltea/capstone-js/dist/${file}`, import.meta.url), path.join(outdir, as));
