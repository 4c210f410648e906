/** What the network card remembers; plain. */
import type { GatewayState } from '../../../network/gateway.ts';
import type { OffloadState } from './offload.ts';

/** An RNDIS message for the guest that waits for a section or for room in the ring. */
export interface Waiting {
  message: Uint8Array;
  /** For the trace; empty: what the message says. */
  what: string;
}

export interface NetworkState {
  /** There is a card. */
  present: boolean;
  linkUp: boolean;
  permanentMac: number;
  currentMac: number;
  // --- the conversation, forgotten when the channel is closed
  /** NVSP version; 0: none yet. */
  version: number;
  ndis: { major: number; minor: number };
  /** Largest frame without a tag, and whether the guest wants tags as information. */
  mtu: number;
  vlanInfo: boolean;
  /** Sections of both buffers; a buffer is gone when its GPADL is. `used`: a byte for each section. */
  receive?: { gpadl: number; id: number; sectionSize: number; used: Uint8Array; free: number; cursor: number };
  send?: { gpadl: number; id: number; sections: number };
  rndis: 'uninitialized' | 'initialized';
  /** NDIS packet filter; 0: the guest wants no frames. */
  filter: number;
  offload: OffloadState;
  rss?: { key: Uint8Array; table: number[] };
  /** Sub-channels that the guest has asked for, and those it has opened. */
  asked: number;
  opened: number[];
  /** Control messages, which go by the first channel before anything else; and frames, by channel. */
  control: Waiting[];
  waiting: Waiting[][];
  /** Transfers that the guest has not completed: their sections are in use. */
  transfers: { id: number; channel: number; sections: number[] }[];
  nextTransfer: number;
  // --- for people
  statistics: {
    sentFrames: number;
    sentBytes: number;
    receivedFrames: number;
    receivedBytes: number;
    sendErrors: number;
    receiveErrors: number;
    /** Frames for which the guest had no room, and those it did not want. */
    noBuffer: number;
    filtered: number;
    checksums: number;
    largeSends: number;
    tagged: number;
  };
  /** The last frames. */
  recent: { at: number; sent: boolean; frame: Uint8Array }[];
  gateway: GatewayState;
}
