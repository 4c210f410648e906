/**
 * What VS Code starts. Node 22 and newer keep compiled code from session to session when asked to, before it is loaded: a quarter of the time
 * that loading takes. The folder may be deleted at any time.
 */
import module from 'node:module';
import path from 'node:path';
import { userCache } from './user-cache.ts';

const { enableCompileCache } = module as { enableCompileCache?: (folder: string) => unknown };
enableCompileCache?.(path.join(userCache(), 'code'));
await import('./main.ts');
