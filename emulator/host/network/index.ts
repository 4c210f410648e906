/** The outside of the network, for who has Node: the one part of the emulator that a browser has to do without. */
export { Allowed } from './allow.ts';
export { ProgramSockets, type StdioPort, StdioSockets } from './programs.ts';
export { UserNetwork } from './sockets.ts';
export { UnixSockets } from './unix.ts';
