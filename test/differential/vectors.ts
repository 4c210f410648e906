/**
 * Runs vector files through all engines and counts: `node --import tsx test/differential/vectors.ts FILES...` (a64vec-1, plain or
 * gzip). Exit status 1 when a vector failed in an engine. `vectors.test.ts` does the same with the sample in `vectors/`.
 */
import { cpu, type Engine, evaluator, failures, loadVectors, translated, type Vector, type VectorFile } from './a64vec.ts';

export interface Count {
  readonly engine: string;
  vectors: number;
  failed: number;
  /** Vectors of which some instruction was executed in a region (translator only). */
  inRegions: number;
}

/** Classes `system-*` are what the CPU does in TypeScript: there is nothing that the evaluator could evaluate. */
const hasSemantics = (v: Vector): boolean => !v.c.startsWith('system-');

/** The three engines, and what they made of the files so far. They are kept from file to file with what they have compiled. */
export class Judge {
  readonly counts: readonly Count[];
  readonly #engines: readonly { readonly run: Engine; entered?(): number; accepts?(v: Vector): boolean }[];

  constructor() {
    this.#engines = [{ run: evaluator(), accepts: hasSemantics }, { run: cpu(undefined, 4000) }, translated()];
    this.counts = ['evaluator', 'interpreter', 'translator'].map((engine) => ({ engine, vectors: 0, failed: 0, inRegions: 0 }));
  }

  /** Runs all vectors of a file; the failures, a line each, with the engine's name in front. */
  run(file: VectorFile): string[] {
    return this.#engines.flatMap((engine, i) => {
      const count = this.counts[i];
      const vectors = engine.accepts ? file.vectors.filter(engine.accepts) : file.vectors;
      const wrong = failures(file, vectors, engine.run);
      count.vectors += vectors.length;
      count.failed += wrong.length;
      count.inRegions = engine.entered?.() ?? 0;
      return wrong.map((line) => `${count.engine}: ${line}`);
    });
  }

  report(): string {
    return this.counts
      .map(
        ({ engine, vectors, failed, inRegions }) =>
          `${engine}: ${vectors - failed} passed, ${failed} failed${inRegions ? `, ${inRegions} ran in regions` : ''}`,
      )
      .join('\n');
  }
}

if (process.argv[1] === import.meta.filename) {
  const judge = new Judge();
  let failed = false;
  for (const path of process.argv.slice(2))
    for (const line of judge.run(loadVectors(path))) {
      failed = true;
      console.log(line);
    }
  console.log(judge.report());
  process.exitCode = failed ? 1 : 0;
}
