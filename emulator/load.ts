/** The emulator itself, the other half of its public API (index.ts): what is only loaded when a machine is about to be made. */
export { createMachine } from './machine.ts';
export {
  MAX_PROGRAM,
  VECTOR_REGISTERS,
  VectorMachine,
  type VectorMachineOptions,
  type VectorResult,
} from './cpu/vector-machine.ts';
