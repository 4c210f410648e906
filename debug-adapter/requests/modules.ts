/** The kernel and its modules. */
import type { DebugProtocol } from '@vscode/debugprotocol';
import { hex } from '../../emulator/base/bits.ts';
import type { Session } from '../session.ts';

/** The kernel and its modules as they are now, the kernel first. */
export function allModules(session: Session): DebugProtocol.Module[] {
  const { kernel, config, files } = session.debuggee;
  /** `module` undefined: the kernel. */
  const debugInfo = (module: string | undefined): Pick<DebugProtocol.Module, 'symbolStatus' | 'symbolFilePath'> | undefined => {
    const found = files.all.find((l) => l.module === module);
    if (!found) return undefined;
    const { info, problems: all } = found;
    const problems = all.length ? `; ${all.length} problems: ${all[0]}` : '';
    return { symbolStatus: `debug information${problems}`, symbolFilePath: info.elf.name };
  };
  /** Why there is none, where files were named. */
  const why = (module: string): string => {
    const problem = files.problems.get(module);
    return problem && session.debuggee.args.symbols?.length ? `; no debug information: ${problem}` : '';
  };
  return [
    {
      id: 'kernel',
      name: 'kernel',
      path: config.kernelName,
      ...(kernel.image?.release ? { version: kernel.image.release } : {}),
      symbolStatus: kernel.image?.symbols.length
        ? `${kernel.image.symbols.length} from kallsyms`
        : kernel.symbols.size
          ? `${kernel.symbols.size} from the file`
          : 'not found yet',
      ...debugInfo(undefined),
      ...(kernel.image
        ? { addressRange: `${hex(kernel.image.base)}-${hex(kernel.image.base + BigInt(kernel.image.size))}` }
        : {}),
    },
    ...kernel.modules.map((m) => ({
      id: m.name,
      name: m.name,
      symbolStatus: `${m.symbols.length} from the guest${why(m.name)}`,
      ...debugInfo(m.name),
      addressRange: `${hex(m.base)}-${hex(m.base + BigInt(m.size))}`,
    })),
  ];
}

export const modules = {
  modules(session: Session, args: DebugProtocol.ModulesArguments): DebugProtocol.ModulesResponse['body'] {
    const all = allModules(session);
    const start = args.startModule ?? 0;
    return { modules: all.slice(start, args.moduleCount ? start + args.moduleCount : undefined), totalModules: all.length };
  },
};
