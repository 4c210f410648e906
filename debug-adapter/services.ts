/** What launch.json and the command line say of the integration services: text, and files of this computer. */
import fs from 'node:fs';
import { ConfigError, type CopyRequest } from '../emulator/index.ts';
import type { CopySetting } from './protocol.ts';

/** Reads the file of a setting. Throws `ConfigError`: one line with the file and what is wrong with it. */
export function copyRequest({ from, to, overwrite, createPath }: CopySetting): CopyRequest {
  try {
    return { to, overwrite, createPath, bytes: new Uint8Array(fs.readFileSync(from)) };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const why =
      code === 'ENOENT'
        ? 'no such file'
        : code === 'EISDIR'
          ? 'it is a folder'
          : code === 'EACCES'
            ? 'permission denied'
            : message;
    throw new ConfigError(`${from}: ${why}`);
  }
}
