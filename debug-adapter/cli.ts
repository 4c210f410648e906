/** The `hyperstep` command: subcommands in cli/, one file each, loaded when they are asked for: most need no emulator. */
import './v8-settings.ts';
import { createRequire } from 'node:module';
import { UsageError } from './cli/usage.ts';

const HELP = `Usage: hyperstep COMMAND [OPTIONS]

Boots an unmodified arm64 kernel as a Hyper-V guest in an emulator, and debugs it.

Commands:
  run             boot a kernel; its serial console goes to stdout
  demo            boot a kernel, stop at its first HvCallPostMessage and explain what is there
  dap             speak the Debug Adapter Protocol on stdin and stdout (what VS Code starts)
  addr2line       say where addresses of a kernel or module are in the source
  debian-symbols  fetch debug information and sources of one of Debian's kernels
  vectors         run recorded A64 instruction vectors on the CPU

  --help          this text; \`hyperstep COMMAND --help\` for one command
  --version       the version
`;

const DAP_HELP = `Usage: hyperstep dap

Speaks the Debug Adapter Protocol on stdin and stdout until the client disconnects. VS Code starts this by itself;
other editors can be pointed at it. The launch arguments are those of launch.json (see README).
`;

const VECTORS_HELP = `Usage: hyperstep vectors FILE...

Runs instruction vectors (format a64vec-1: JSON lines, plain or .gz) and compares registers, flags and memory. Ends with
"N passed, N failed"; a failed vector prints the word, its disassembly and what differs. Status 0 if none failed.
`;

const version = (): string => (createRequire(import.meta.url)('../package.json') as { version: string }).version;

async function main(args: string[]): Promise<number> {
  const [command, ...rest] = args;
  const help = rest.includes('--help') || rest.includes('-h');
  const out = (text: string): void => {
    process.stdout.write(text);
  };
  switch (command) {
    case undefined:
      process.stderr.write(HELP);
      return 2;
    case '--help':
    case '-h':
    case 'help':
      out(HELP);
      return 0;
    case '--version':
      out(`${version()}\n`);
      return 0;
    case 'run': {
      const { RUN_HELP, runCommand } = await import('./cli/run.ts');
      if (help) out(RUN_HELP);
      return help ? 0 : runCommand(rest);
    }
    case 'demo': {
      const { demo, DEMO_HELP } = await import('./cli/demo.ts');
      if (help) out(DEMO_HELP);
      return help ? 0 : demo(rest);
    }
    case 'dap':
      if (help) {
        out(DAP_HELP);
        return 0;
      }
      if (rest.length) throw new UsageError(`dap takes no arguments: ${rest[0]}`);
      return (await import('./main.ts')).main().then((status) => {
        // A client may leave our stdin open: answers that are still in the pipe go out, and then it is the end.
        process.stdout.end(() => process.exit(status));
        return status;
      });
    case 'addr2line': {
      const { ADDR2LINE_HELP, addr2line } = await import('./cli/addr2line.ts');
      if (help) out(ADDR2LINE_HELP);
      return help ? 0 : addr2line(rest, out);
    }
    case 'debian-symbols': {
      const { DEBIAN_SYMBOLS_HELP, debianSymbols } = await import('./cli/debian.ts');
      if (help) out(DEBIAN_SYMBOLS_HELP);
      return help ? 0 : debianSymbols(rest, out);
    }
    case 'vectors': {
      if (help) {
        out(VECTORS_HELP);
        return 0;
      }
      const option = rest.find((a) => a.startsWith('-'));
      if (option) throw new UsageError(`unknown option ${option} (hyperstep vectors --help)`);
      if (!rest.length) throw new UsageError('vectors needs at least one FILE');
      return (await import('./vectors.ts')).runVectors(rest, out);
    }
    default:
      throw new UsageError(`unknown ${command.startsWith('-') ? 'option' : 'command'} ${command} (hyperstep --help)`);
  }
}

// A closed pipe (`hyperstep run | head`) ends the program like any other, with the status a shell gives for SIGPIPE: 0 would
// say that the guest has powered off.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(141);
  throw error;
});

main(process.argv.slice(2)).then(
  (status) => {
    process.exitCode = status;
  },
  (error: unknown) => {
    if (error instanceof UsageError) {
      process.stderr.write(`hyperstep: ${error.message}\n`);
      process.exitCode = 2;
      return;
    }
    process.stderr.write(
      `hyperstep: internal error: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
    );
    process.exitCode = 1;
  },
);
