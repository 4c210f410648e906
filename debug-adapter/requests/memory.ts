/** Guest memory as bytes. */
import type { DebugProtocol } from '@vscode/debugprotocol';
import { hex } from '../../emulator/base/bits.ts';
import type { Session } from '../session.ts';
import { UserError } from '../user-error.ts';

const PAGE = 4096;
const MAX_READ = 1 << 20;

/** Address of a memory reference (what we gave out, or what a person typed). */
export function memoryAddress(reference: string, offset: number | undefined): bigint {
  if (!/^(0x[0-9a-f]+|\d+)$/i.test(reference)) throw new UserError(`"${reference}" is not an address`);
  return BigInt.asUintN(64, BigInt(reference) + BigInt(offset ?? 0));
}

export const memory = {
  readMemory(session: Session, args: DebugProtocol.ReadMemoryArguments): DebugProtocol.ReadMemoryResponse['body'] {
    const { machine } = session.debuggee;
    const address = memoryAddress(args.memoryReference, args.offset);
    const count = Math.min(args.count, MAX_READ);
    const vp = session.stopAt?.vp ?? 0;
    const chunks: Uint8Array[] = [];
    let got = 0;
    // Page by page up to the first that is not mapped.
    while (got < count) {
      const at = address + BigInt(got);
      const n = Math.min(count - got, PAGE - Number(at % BigInt(PAGE)));
      const chunk = machine.readVirtual(vp, at, n);
      if (!chunk) break;
      chunks.push(chunk);
      got += n;
    }
    return {
      address: hex(address),
      ...(got < count ? { unreadableBytes: count - got } : {}),
      ...(got > 0 ? { data: Buffer.concat(chunks).toString('base64') } : {}),
    };
  },

  writeMemory(session: Session, args: DebugProtocol.WriteMemoryArguments): DebugProtocol.WriteMemoryResponse['body'] {
    session.needStopped();
    const { machine } = session.debuggee;
    const address = memoryAddress(args.memoryReference, args.offset);
    const data = new Uint8Array(Buffer.from(args.data, 'base64'));
    const vp = session.stopAt?.vp ?? 0;
    if (machine.writeVirtual(vp, address, data)) return { bytesWritten: data.length };
    if (!args.allowPartial)
      throw new UserError(`${data.length} bytes at ${hex(address)} cannot be written: not all of it is mapped`);
    let written = 0;
    while (written < data.length) {
      const at = address + BigInt(written);
      const n = Math.min(data.length - written, PAGE - Number(at % BigInt(PAGE)));
      if (!machine.writeVirtual(vp, at, data.subarray(written, written + n))) break;
      written += n;
    }
    return { bytesWritten: written };
  },
};
