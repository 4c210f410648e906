/** Documents for frames without sources: disassembly of their functions. */
import type { DebugProtocol } from '@vscode/debugprotocol';
import { loadDisassembler } from '../disassembler.ts';
import type { Session } from '../session.ts';
import { UserError } from '../user-error.ts';

export const source = {
  async source(session: Session, args: DebugProtocol.SourceArguments): Promise<DebugProtocol.SourceResponse['body']> {
    const { kernel } = session.debuggee;
    const listing = session.listings.find(args.source ?? args, kernel.symbols);
    if (!listing) throw new UserError('This listing is of another session, and its function is not known here yet');
    const disassemble = await loadDisassembler();
    return { content: session.listings.text(listing, kernel.reader(session.stopAt?.vp ?? 0), kernel.symbols, disassemble) };
  },
};
