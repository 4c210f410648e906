/** The one place that tells image formats apart. */
import { ConfigError } from '../config.ts';
import type { Disk, ImageFile } from './disk.ts';
import { openRaw } from './raw.ts';
import { isVhd, openVhd } from './vhd.ts';
import { isVhdx, openVhdx } from './vhdx.ts';

/** What a differencing image says about its parent: paths to try in order, as they are written there. */
export type ParentOpener = (paths: readonly string[], child: ImageFile) => ImageFile | undefined;

/** Images below each other at most: a chain that goes round in circles ends here. */
const MAX_PARENTS = 32;

/** A path out of an image as a message can show it: it may be anything. */
const shown = (path: string): string => (path.length > 260 ? `${path.slice(0, 260)}...` : path);

/** Opens an image of any format we know: VHDX and VHD by what is inside them, anything else is raw. Throws `ConfigError`. */
export function openImage(file: ImageFile, openParent: ParentOpener = () => undefined, depth = 0): Disk {
  if (depth > MAX_PARENTS) throw new ConfigError(`${file.name}: more than ${MAX_PARENTS} parent images`);
  const parent = (paths: readonly string[]): Disk => {
    const found = openParent(paths, file);
    if (!found)
      throw new ConfigError(`${file.name}: its parent image is not there (${paths.map(shown).join(', ') || 'it names none'})`);
    return openImage(found, openParent, depth + 1);
  };
  if (isVhdx(file)) return openVhdx(file, parent);
  if (isVhd(file)) return openVhd(file, parent);
  if (/\.(vhdx?|avhdx?)$/i.test(file.name))
    throw new ConfigError(`${file.name}: neither the signature of a VHDX file nor the footer of a VHD is there`);
  return openRaw(file);
}
