/** Documents: sources, for clients that do not open files themselves, and for frames without sources the disassembly of their functions. */
import fs from 'node:fs';
import type { DebugProtocol } from '@vscode/debugprotocol';
import { loadDisassembler } from '../disassembler.ts';
import type { Session } from '../session.ts';
import { UserError } from '../user-error.ts';

export const source = {
  async source(session: Session, args: DebugProtocol.SourceArguments): Promise<DebugProtocol.SourceResponse['body']> {
    const { kernel, sources } = session.debuggee;
    const { path: file, sourceReference } = args.source ?? {};
    if (file && !sourceReference && !args.sourceReference) return { content: text(file, sources.local(file)) };
    const listing = session.listings.find(args.source ?? args, kernel.symbols);
    if (!listing) throw new UserError('This listing is of another session, and its function is not known here yet');
    const disassemble = await loadDisassembler();
    return { content: session.listings.text(listing, kernel.reader(session.stopAt?.vp ?? 0), kernel.symbols, disassemble) };
  },
};

/** More than any source file of a kernel has. */
const MAX_SOURCE = 16 << 20;

/** A source file in one of the folders that the user named. Throws UserError. */
function text(file: string, local: string | undefined): string {
  if (!local) throw new UserError(`${file} is not in a folder of "sourceMap" in launch.json`);
  const { size } = fs.statSync(local);
  if (size > MAX_SOURCE) throw new UserError(`${local} has ${size} bytes: no source file is that long`);
  return fs.readFileSync(local, 'utf8');
}
