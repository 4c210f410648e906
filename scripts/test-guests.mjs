// `npm run test:guests [-- WORD...]`: all of Debian's arm64 kernels as guests, fetched when they are not in the cache (1.2 GB), as a table.
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { ROOT, ensureDependencies } from './setup.mjs';

ensureDependencies();
const program = path.join(ROOT, 'test', 'guest', 'all-kernels.ts');
const r = spawnSync(process.execPath, ['--import', 'tsx', program, ...process.argv.slice(2)], { cwd: ROOT, stdio: 'inherit' });
process.exit(r.status ?? 1);
