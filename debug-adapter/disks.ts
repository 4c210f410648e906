/** Disk images as files of this computer: opened for a guest, and written when it is over if that was asked for. */
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { idFromName } from '../emulator/base/guid.ts';
import {
  ConfigError,
  type Disk,
  type DiskConfig,
  differencingVhdx,
  type ImageFile,
  isVhdxDisk,
  type Machine,
  openImage,
} from '../emulator/index.ts';
import type { DiskSetting } from './protocol.ts';

/** Formats whose data lies in the file as it lies on the disk: these can be written in place. */
const IN_PLACE = ['raw image', 'fixed VHD'];

const why = (error: unknown): string => {
  const { code, message } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' ? 'no such file' : code === 'EACCES' ? 'permission denied' : message;
};

/** An image file that stays open. */
export function openFile(file: string): ImageFile & { close(): void } {
  try {
    const fd = fs.openSync(file, 'r');
    const stat = fs.fstatSync(fd);
    if (!stat.isFile()) {
      fs.closeSync(fd);
      throw new ConfigError(`${file}: it is not a file`);
    }
    return {
      name: file,
      size: stat.size,
      read(offset, length) {
        const out = new Uint8Array(length);
        try {
          for (let at = 0; at < length; ) {
            const n = fs.readSync(fd, out, at, length - at, offset + at);
            if (n === 0) return undefined;
            at += n;
          }
        } catch {
          // The guest sees a medium error; what else could be done here?
          return undefined;
        }
        return out;
      },
      close: () => fs.closeSync(fd),
    };
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw new ConfigError(`${file}: ${why(error)}`);
  }
}

interface OpenDisk {
  config: DiskConfig;
  setting: DiskSetting;
  /** The image at `path`: the parent of a differencing file. */
  base: Disk;
  /** The differencing file as it was, when there was one. */
  before?: Disk;
}

export class DiskFiles {
  readonly #disks: OpenDisk[] = [];
  readonly #files: { close(): void }[] = [];

  /** Opens what the settings name. Throws `ConfigError`: one line with the file and what is wrong with it. */
  constructor(settings: readonly DiskSetting[]) {
    try {
      for (const setting of settings) this.#disks.push(this.#open(setting));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** For the machine's configuration. */
  get configs(): DiskConfig[] {
    return this.#disks.map((d) => d.config);
  }

  /** The same with what a guest has written so far: for a machine that begins anew after a reset. */
  carry(machine: Machine): DiskConfig[] {
    return this.configs.map((c) => ({ ...c, written: [...machine.diskWrites(c.name)] }));
  }

  /** Writes what the guest has written, where that was asked for; what was done, for the user. */
  save(machine: Machine): string[] {
    return this.#disks.flatMap((d) => {
      const { writeTo } = d.setting;
      const written = [...machine.diskWrites(d.config.name)];
      if (writeTo === undefined || written.length === 0) return [];
      try {
        if (sameFile(writeTo, d.setting.path)) writeInPlace(writeTo, written);
        else this.#saveDifferencing(d, writeTo, written);
      } catch (error) {
        return [`${writeTo}: cannot be written: ${why(error)}`];
      }
      return [`${writeTo}: ${written.length} blocks that the guest wrote to ${d.config.name}`];
    });
  }

  /** Lets go of the files; there is nothing to save any more. */
  close(): void {
    this.#disks.length = 0;
    for (const file of this.#files.splice(0)) file.close();
  }

  #open(setting: DiskSetting): OpenDisk {
    const { writeTo } = setting;
    const base = this.#image(setting.path);
    let disk = base;
    let before: Disk | undefined;
    if (writeTo !== undefined && sameFile(writeTo, setting.path)) {
      if (!IN_PLACE.includes(base.format))
        throw new ConfigError(`${writeTo}: a ${base.format} cannot be written in place; write to a differencing file`);
    } else if (writeTo !== undefined) {
      if (!/\.a?vhdx$/i.test(writeTo)) throw new ConfigError(`${writeTo}: what the guest writes is kept in a .vhdx file`);
      if (fs.existsSync(writeTo)) {
        before = this.#image(writeTo, setting.path);
        if (before.format !== 'differencing VHDX') throw new ConfigError(`${writeTo}: it exists and is no differencing VHDX`);
        disk = before;
      }
    }
    const plain = path.basename(setting.path);
    const taken = this.#disks.map((d) => d.config.name);
    let name = plain;
    for (let n = 2; taken.includes(name); n++) name = `${plain} (${n})`;
    const dvd = setting.dvd ?? /\.iso$/i.test(plain);
    return {
      setting,
      base,
      before,
      config: { name, disk, dvd, bus: setting.bus ?? 'scsi', readOnly: setting.readOnly ?? false },
    };
  }

  /** Opens an image. The parent of a differencing one is `below` if given, else where the image says. */
  #image(file: string, below?: string): Disk {
    const keep = (name: string): ImageFile => {
      const opened = openFile(name);
      this.#files.push(opened);
      return opened;
    };
    return openImage(keep(file), (paths, child) => {
      const folder = path.dirname(child.name);
      const names = paths.map((p) => p.replaceAll('\\', '/'));
      const places = [
        ...names.map((p) => path.resolve(folder, p)),
        ...names.map((p) => path.join(folder, path.posix.basename(p))),
      ];
      const found = below !== undefined && child.name === file ? below : places.find((p) => fs.existsSync(p));
      return found === undefined ? undefined : keep(found);
    });
  }

  #saveDifferencing(d: OpenDisk, writeTo: string, written: [number, Uint8Array][]): void {
    const own = d.before && isVhdxDisk(d.before) ? d.before.own() : [];
    const whole = path.resolve(d.setting.path);
    const pieces = differencingVhdx({
      parent: d.base,
      parentPaths: { relative_path: path.relative(path.dirname(path.resolve(writeTo)), whole), absolute_win32_path: whole },
      writeId: randomBytes(16),
      diskId: idFromName(d.config.name),
      writes: chain(own, written),
    });
    const part = `${writeTo}.part`;
    writeFile(part, 'w', pieces);
    fs.renameSync(part, writeTo);
  }
}

function* chain<T>(...lists: Iterable<T>[]): Iterable<T> {
  for (const list of lists) yield* list;
}

/** Both images of `IN_PLACE` begin with the disk's first byte. */
const writeInPlace = (file: string, written: [number, Uint8Array][]): void => writeFile(file, 'r+', written);

function writeFile(file: string, flags: string, pieces: Iterable<[number, Uint8Array]>): void {
  const fd = fs.openSync(file, flags);
  try {
    for (const [offset, data] of pieces) fs.writeSync(fd, data, 0, data.length, offset);
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}

function sameFile(a: string, b: string): boolean {
  const real = (p: string): string => (fs.existsSync(p) ? fs.realpathSync(p) : path.resolve(p));
  return real(a) === real(b);
}
