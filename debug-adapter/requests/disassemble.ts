/** The disassembly view. A64 instructions are four bytes: going back is as easy as going on. */
import type { DebugProtocol } from '@vscode/debugprotocol';
import { hex } from '../../emulator/base/bits.ts';
import { viewOf } from '../../emulator/base/struct.ts';
import { loadDisassembler } from '../disassembler.ts';
import { instructionText } from '../listing.ts';
import type { Session } from '../session.ts';
import { memoryAddress } from './memory.ts';

const MAX_INSTRUCTIONS = 10_000;

export const disassembly = {
  async disassemble(
    session: Session,
    args: DebugProtocol.DisassembleArguments,
  ): Promise<DebugProtocol.DisassembleResponse['body']> {
    const disassemble = await loadDisassembler();
    const { machine, kernel } = session.debuggee;
    const vp = session.stopAt?.vp ?? 0;
    const base = memoryAddress(args.memoryReference, args.offset) & ~3n;
    const count = Math.min(args.instructionCount, MAX_INSTRUCTIONS);
    const start = base + BigInt(4 * (args.instructionOffset ?? 0));
    const instructions = Array.from({ length: count }, (_, i): DebugProtocol.DisassembledInstruction => {
      const address = start + BigInt(4 * i);
      // Below zero or above 2^64 - 1 there is nothing; the view still wants its row.
      const code = address >= 0n && address >> 64n === 0n ? machine.readVirtual(vp, address, 4) : undefined;
      const shown = hex(BigInt.asUintN(64, address));
      if (!code) return { address: shown, instruction: '??', presentationHint: 'invalid' };
      const word = viewOf(code).getUint32(0, true);
      const at = kernel.symbols.at(address);
      return {
        address: shown,
        instructionBytes: Array.from(code, (b) => b.toString(16).padStart(2, '0')).join(' '),
        instruction: instructionText(word, address, kernel.symbols, disassemble),
        ...(at && (args.resolveSymbols ?? true) && (at.offset === 0 || i === 0)
          ? { symbol: kernel.symbols.format(address) }
          : {}),
      };
    });
    return { instructions };
  },
};
