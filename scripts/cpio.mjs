// The "newc" cpio format that Linux unpacks as an initramfs (Linux Documentation/driver-api/early-userspace/buffer-format.rst).

const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;

/**
 * Packs entries in the order given; owner 0:0 and one fixed date, so the same entries give the same bytes.
 * @param {{ path: string, mode?: number, data?: Uint8Array | string, link?: string }[]} entries neither data nor link: a directory
 */
export function cpio(entries) {
  const parts = [];
  const pad = (n) => Buffer.alloc((4 - (n & 3)) & 3);
  let inode = 0;
  const add = (path, mode, data) => {
    inode++;
    const name = Buffer.from(`${path}\0`);
    const field = (v) => v.toString(16).padStart(8, '0');
    const header = `070701${[inode, mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, name.length, 0].map(field).join('')}`;
    parts.push(Buffer.from(header), name, pad(header.length + name.length), data, pad(data.length));
  };
  for (const e of entries) {
    if (e.link !== undefined) add(e.path, S_IFLNK | 0o777, Buffer.from(e.link));
    else if (e.data !== undefined) add(e.path, S_IFREG | (e.mode ?? 0o644), Buffer.from(e.data));
    else add(e.path, S_IFDIR | (e.mode ?? 0o755), Buffer.alloc(0));
  }
  add('TRAILER!!!', 0, Buffer.alloc(0));
  return Buffer.concat(parts);
}
