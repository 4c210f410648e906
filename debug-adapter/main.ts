/** The debug adapter on stdin and stdout: what VS Code starts. */
import './v8-settings.ts';
import path from 'node:path';
import { type Readable, Writable } from 'node:stream';
import { Framing } from './framing.ts';
import { Session } from './session.ts';

/** What is said in one go, an answer and the events that follow from it, goes out in one write: each costs more than making the message. */
function together(output: Writable): Writable {
  let text = '';
  return new Writable({
    decodeStrings: false,
    write(chunk, _, done) {
      if (text === '')
        queueMicrotask(() => {
          output.write(text);
          text = '';
        });
      text += String(chunk);
      done();
    },
  });
}

/** Serves one client on a pair of streams until it disconnects. */
export async function serve(input: Readable, output: Writable, report: (problem: string) => void): Promise<void> {
  const session = new Session();
  session.setRunAsServer(true);
  const framing = new Framing(report);
  session.on('error', (event: { body?: unknown }) => report(String(event.body ?? 'error in the connection')));
  session.on('close', () => session.shutdown());
  framing.on('end', () => session.shutdown());
  input.on('error', (error) => report(`reading failed: ${error.message}`));
  session.start(input.pipe(framing), together(output));
  await session.closed;
}

/** `hyperstep dap`: the exit status. */
export async function main(): Promise<number> {
  await serve(process.stdin, process.stdout, (problem) => process.stderr.write(`hyperstep: ${problem}\n`));
  return 0;
}

// The bundle of this file, or the file itself: not when the command line imports it.
if (/^(main\.ts|debug-adapter\.mjs)$/.test(path.basename(process.argv[1] ?? '')))
  main().then((status) => {
    // Answers that are still in the pipe go out first.
    process.stdout.end(() => process.exit(status));
  });
