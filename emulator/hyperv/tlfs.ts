/**
 * The Hypervisor Top Level Functional Specification as data: call codes, status codes, the control word and the layouts of
 * inputs and outputs, spelled as the TLFS spells them. Sections named here are those of reference hyperv-arm64.md.
 * VP registers are rows of registers.ts, feature bits of features.ts.
 */
import { array, bytes, struct, u8, u16, u32, u64, u128 } from '../base/struct.ts';
import type { FeatureName } from './features.ts';

/** HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF, HV_ANY_VP (§2.7). */
export const HV_PARTITION_ID_SELF = 0xffff_ffff_ffff_ffffn;
export const HV_VP_INDEX_SELF = 0xffff_fffe;
export const HV_ANY_VP = 0xffff_ffff;

/** The HV page, whatever the guest's page size is (§0). */
export const HV_PAGE = 4096;

/** HV_STATUS (§2.5), without the prefix. */
export const STATUS = {
  SUCCESS: 0x00,
  INVALID_HYPERCALL_CODE: 0x02,
  INVALID_HYPERCALL_INPUT: 0x03,
  INVALID_ALIGNMENT: 0x04,
  INVALID_PARAMETER: 0x05,
  ACCESS_DENIED: 0x06,
  INVALID_PARTITION_STATE: 0x07,
  OPERATION_DENIED: 0x08,
  UNKNOWN_PROPERTY: 0x09,
  PROPERTY_VALUE_OUT_OF_RANGE: 0x0a,
  INSUFFICIENT_MEMORY: 0x0b,
  PARTITION_TOO_DEEP: 0x0c,
  INVALID_PARTITION_ID: 0x0d,
  INVALID_VP_INDEX: 0x0e,
  NOT_FOUND: 0x10,
  INVALID_PORT_ID: 0x11,
  INVALID_CONNECTION_ID: 0x12,
  INSUFFICIENT_BUFFERS: 0x13,
  NOT_ACKNOWLEDGED: 0x14,
  INVALID_VP_STATE: 0x15,
  ACKNOWLEDGED: 0x16,
  INVALID_SAVE_RESTORE_STATE: 0x17,
  INVALID_SYNIC_STATE: 0x18,
  OBJECT_IN_USE: 0x19,
  NO_DATA: 0x1b,
  INACTIVE: 0x1c,
  NO_RESOURCES: 0x1d,
  FEATURE_UNAVAILABLE: 0x1e,
  PARTIAL_PACKET: 0x1f,
  PROCESSOR_FEATURE_NOT_SUPPORTED: 0x20,
  INSUFFICIENT_BUFFER: 0x33,
  INVALID_LP_INDEX: 0x41,
  INVALID_REGISTER_VALUE: 0x50,
  INVALID_VTL_STATE: 0x51,
  INVALID_DEVICE_ID: 0x57,
  INVALID_DEVICE_STATE: 0x58,
  OPERATION_FAILED: 0x71,
  INSUFFICIENT_ROOT_MEMORY: 0x73,
  INSUFFICIENT_CONTIGUOUS_MEMORY: 0x75,
  TIMEOUT: 0x78,
  CALL_PENDING: 0x79,
  INSUFFICIENT_CONTIGUOUS_ROOT_MEMORY: 0x83,
  VTL_ALREADY_ENABLED: 0x86,
  UNKNOWN_REGISTER_NAME: 0x87,
} as const;

const STATUS_NAMES = new Map<number, string>(Object.entries(STATUS).map(([name, value]) => [value, `HV_STATUS_${name}`]));

/** `HV_STATUS_INVALID_ALIGNMENT`, or `HV_STATUS_0x..` for a value the TLFS does not name. */
export const statusName = (status: number): string => STATUS_NAMES.get(status) ?? `HV_STATUS_0x${status.toString(16)}`;

interface CallRow {
  code: number;
  /** The privilege a partition needs (§3.3); absent: none that a guest could lack. */
  privilege?: FeatureName;
}
const call = (code: number, privilege?: FeatureName): CallRow => (privilege ? { code, privilege } : { code });

/** Every call code with a name (§2.6), and the privilege that the TLFS asks of its caller. */
export const CALLS = {
  HvCallSwitchVirtualAddressSpace: call(0x0001),
  HvCallFlushVirtualAddressSpace: call(0x0002),
  HvCallFlushVirtualAddressList: call(0x0003),
  HvCallGetLogicalProcessorRunTime: call(0x0004, 'CpuManagement'),
  HvCallNotifyLongSpinWait: call(0x0008),
  HvCallParkedVirtualProcessors: call(0x0009, 'CpuManagement'),
  HvCallInvokeHypervisorDebugger: call(0x000a, 'Debugging'),
  HvCallSendSyntheticClusterIpi: call(0x000b),
  HvCallModifyVtlProtectionMask: call(0x000c, 'AccessVsm'),
  HvCallEnablePartitionVtl: call(0x000d, 'AccessVsm'),
  HvCallDisablePartitionVtl: call(0x000e, 'AccessVsm'),
  HvCallEnableVpVtl: call(0x000f, 'AccessVsm'),
  HvCallDisableVpVtl: call(0x0010, 'AccessVsm'),
  HvCallVtlCall: call(0x0011, 'AccessVsm'),
  HvCallVtlReturn: call(0x0012, 'AccessVsm'),
  HvCallFlushVirtualAddressSpaceEx: call(0x0013),
  HvCallFlushVirtualAddressListEx: call(0x0014),
  HvCallSendSyntheticClusterIpiEx: call(0x0015),
  HvCallQueryImageInfo: call(0x0016),
  HvCallMapImagePages: call(0x0017),
  HvCallCommitPatch: call(0x0018),
  HvCallCreatePartition: call(0x0040, 'CreatePartitions'),
  HvCallInitializePartition: call(0x0041, 'CreatePartitions'),
  HvCallFinalizePartition: call(0x0042, 'CreatePartitions'),
  HvCallDeletePartition: call(0x0043, 'CreatePartitions'),
  HvCallGetPartitionProperty: call(0x0044, 'CreatePartitions'),
  HvCallSetPartitionProperty: call(0x0045, 'CreatePartitions'),
  HvCallGetPartitionId: call(0x0046, 'AccessPartitionId'),
  HvCallGetNextChildPartition: call(0x0047, 'CreatePartitions'),
  HvCallDepositMemory: call(0x0048, 'AccessMemoryPool'),
  HvCallWithdrawMemory: call(0x0049, 'AccessMemoryPool'),
  HvCallGetMemoryBalance: call(0x004a, 'AccessMemoryPool'),
  HvCallMapGpaPages: call(0x004b, 'CreatePartitions'),
  HvCallUnmapGpaPages: call(0x004c, 'CreatePartitions'),
  HvCallInstallIntercept: call(0x004d, 'CreatePartitions'),
  HvCallCreateVp: call(0x004e, 'CreatePartitions'),
  HvCallDeleteVp: call(0x004f, 'CreatePartitions'),
  // A guest may always reach its own VPs' registers; single registers have privileges of their own.
  HvCallGetVpRegisters: call(0x0050),
  HvCallSetVpRegisters: call(0x0051),
  HvCallTranslateVirtualAddress: call(0x0052, 'CreatePartitions'),
  HvCallReadGpa: call(0x0053, 'CreatePartitions'),
  HvCallWriteGpa: call(0x0054, 'CreatePartitions'),
  HvCallClearVirtualInterrupt: call(0x0056, 'CreatePartitions'),
  HvCallDeletePort: call(0x0058, 'CreatePort'),
  HvCallGetPortProperty: call(0x005a, 'CreatePort'),
  HvCallDisconnectPort: call(0x005b, 'ConnectPort'),
  HvCallPostMessage: call(0x005c, 'PostMessages'),
  HvCallSignalEvent: call(0x005d, 'SignalEvents'),
  HvCallSavePartitionState: call(0x005e, 'CreatePartitions'),
  HvCallRestorePartitionState: call(0x005f, 'CreatePartitions'),
  HvCallInitializeEventLogBufferGroup: call(0x0060, 'ConfigureProfiler'),
  HvCallFinalizeEventLogBufferGroup: call(0x0061, 'ConfigureProfiler'),
  HvCallCreateEventLogBuffer: call(0x0062, 'ConfigureProfiler'),
  HvCallDeleteEventLogBuffer: call(0x0063, 'ConfigureProfiler'),
  HvCallMapEventLogBuffer: call(0x0064, 'ConfigureProfiler'),
  HvCallUnmapEventLogBuffer: call(0x0065, 'ConfigureProfiler'),
  HvCallSetEventLogGroupSources: call(0x0066, 'ConfigureProfiler'),
  HvCallReleaseEventLogBuffer: call(0x0067, 'ConfigureProfiler'),
  HvCallFlushEventLogBuffer: call(0x0068, 'ConfigureProfiler'),
  HvCallPostDebugData: call(0x0069, 'Debugging'),
  HvCallRetrieveDebugData: call(0x006a, 'Debugging'),
  HvCallResetDebugSession: call(0x006b, 'Debugging'),
  HvCallMapStatsPage: call(0x006c, 'AccessStats'),
  HvCallUnmapStatsPage: call(0x006d, 'AccessStats'),
  HvCallMapSparseGpaPages: call(0x006e, 'CreatePartitions'),
  HvCallSetSystemProperty: call(0x006f, 'CpuManagement'),
  HvCallSetPortProperty: call(0x0070, 'CreatePort'),
  HvCallOutputDebugCharacter: call(0x0071, 'Debugging'),
  HvCallEchoIncrement: call(0x0072),
  HvCallPerfNop: call(0x0073),
  HvCallPerfNopInput: call(0x0074),
  HvCallPerfNopOutput: call(0x0075),
  HvCallAddLogicalProcessor: call(0x0076, 'CpuManagement'),
  HvCallRemoveLogicalProcessor: call(0x0077, 'CpuManagement'),
  HvCallQueryNumaDistance: call(0x0078, 'CpuManagement'),
  HvCallSetLogicalProcessorProperty: call(0x0079, 'CpuManagement'),
  HvCallGetLogicalProcessorProperty: call(0x007a, 'CpuManagement'),
  HvCallGetSystemProperty: call(0x007b, 'CpuManagement'),
  HvCallMapDeviceInterrupt: call(0x007c, 'CpuManagement'),
  HvCallUnmapDeviceInterrupt: call(0x007d, 'CpuManagement'),
  HvCallRetargetDeviceInterrupt: call(0x007e),
  HvCallAssertDeviceInterrupt: call(0x0080, 'CpuManagement'),
  HvCallAttachDevice: call(0x0082, 'CpuManagement'),
  HvCallDetachDevice: call(0x0083, 'CpuManagement'),
  HvCallEnterSleepState: call(0x0084, 'CpuManagement'),
  HvCallNotifyPartitionEvent: call(0x0087, 'CreatePartitions'),
  HvCallNotifyPortRingEmpty: call(0x008b),
  HvCallDisableHypervisor: call(0x008f, 'CpuManagement'),
  HvCallModifySparseGpaPages: call(0x0090, 'CreatePartitions'),
  HvCallRegisterInterceptResult: call(0x0091, 'CreatePartitions'),
  HvCallUnregisterInterceptResult: call(0x0092, 'CreatePartitions'),
  HvCallAssertVirtualInterrupt: call(0x0094, 'CreatePartitions'),
  HvCallCreatePort: call(0x0095, 'CreatePort'),
  HvCallConnectPort: call(0x0096, 'ConnectPort'),
  HvCallGetSpaPageList: call(0x0097, 'CreatePartitions'),
  HvCallArm64GetStartStub: call(0x0098),
  HvCallStartVirtualProcessor: call(0x0099, 'StartVirtualProcessor'),
  HvCallGetVpIndexFromApicId: call(0x009a),
  HvCallTranslateVirtualAddressEx: call(0x00ac, 'CreatePartitions'),
  HvCallCheckForIoIntercept: call(0x00ad, 'CreatePartitions'),
  HvCallFlushGuestPhysicalAddressSpace: call(0x00af),
  HvCallFlushGuestPhysicalAddressList: call(0x00b0),
  HvCallCompleteIntercept: call(0x00bd, 'CreatePartitions'),
  HvCallSignalEventDirect: call(0x00c0, 'CreatePartitions'),
  HvCallPostMessageDirect: call(0x00c1, 'CreatePartitions'),
  HvCallDispatchVp: call(0x00c2, 'CreatePartitions'),
  HvCallGetGpaPagesAccessState: call(0x00c9, 'CreatePartitions'),
  HvCallGetSparseGpaPagesAccessState: call(0x00ca, 'CreatePartitions'),
  HvCallCheckSparseGpaPageVtlAccess: call(0x00d4, 'AccessVsm'),
  HvCallFlushTlb: call(0x00d6, 'CreatePartitions'),
  HvCallAcquireSparseSpaPageHostAccess: call(0x00d7, 'CreatePartitions'),
  HvCallReleaseSparseSpaPageHostAccess: call(0x00d8, 'CreatePartitions'),
  HvCallAcceptGpaPages: call(0x00d9, 'CreatePartitions'),
  HvCallUnacceptGpaPages: call(0x00da, 'CreatePartitions'),
  HvCallModifySparseGpaPageHostVisibility: call(0x00db, 'Isolation'),
  HvCallMapVpStatePage: call(0x00e1, 'CreatePartitions'),
  HvCallUnmapVpStatePage: call(0x00e2, 'CreatePartitions'),
  HvCallGetVpState: call(0x00e3, 'CreatePartitions'),
  HvCallSetVpState: call(0x00e4, 'CreatePartitions'),
  HvCallGetVpCpuidValues: call(0x00f4, 'CreatePartitions'),
  HvCallGetPartitionPropertyEx: call(0x0101, 'CreatePartitions'),
  HvCallRestorePartitionTime: call(0x0103, 'CreatePartitions'),
  HvCallMemoryMappedIoRead: call(0x0106),
  HvCallMemoryMappedIoWrite: call(0x0107),
  HvCallDisableHypervisorEx: call(0x010f, 'CpuManagement'),
  HvCallPinGpaPageRanges: call(0x0112),
  HvCallUnpinGpaPageRanges: call(0x0113),
  HvCallQuerySparseGpaPageHostVisibility: call(0x011c, 'Isolation'),
  HvCallMapStatsPage2: call(0x0131, 'AccessStats'),
  HvCallQueryInformationGpaRange: call(0x0135, 'CreatePartitions'),
  HvExtCallQueryCapabilities: call(0x8001, 'EnableExtendedHypercalls'),
  HvExtCallMemoryHeatHint: call(0x8003, 'EnableExtendedHypercalls'),
  HvCallVbsVmCallReport: call(0xc001, 'AccessVsm'),
} as const satisfies Record<string, CallRow>;

export type CallName = keyof typeof CALLS;

const CALL_NAMES = new Map<number, CallName>(Object.entries(CALLS).map(([name, row]) => [row.code, name as CallName]));

/** TLFS name of a call code, undefined when it has none. */
export const callNameOf = (code: number): CallName | undefined => CALL_NAMES.get(code);

/** `HvCallPostMessage`, or `HvCall0x1234`. */
export const callName = (code: number): string => callNameOf(code) ?? `HvCall0x${code.toString(16).padStart(4, '0')}`;

/** Name and code of every call, in code order: what a picker lists. */
export const hypercallNames = (): { name: string; code: number }[] =>
  Object.entries(CALLS)
    .map(([name, row]) => ({ name, code: row.code }))
    .sort((a, b) => a.code - b.code);

/** The hypercall input value (§2.2). */
export interface ControlWord {
  code: number;
  fast: boolean;
  /** Variable header, in qwords. */
  variableHeader: number;
  nested: boolean;
  repCount: number;
  repStart: number;
  /** Some reserved bit is set. */
  reserved: boolean;
}

const RESERVED_BITS = (0xfn << 27n) | (0xfn << 44n) | (0xfn << 60n);

export function controlWord(value: bigint): ControlWord {
  const low = Number(value & 0xffff_ffffn);
  const high = Number((value >> 32n) & 0xffff_ffffn);
  return {
    code: low & 0xffff,
    fast: (low & 0x1_0000) !== 0,
    variableHeader: (low >>> 17) & 0x3ff,
    nested: low >>> 31 !== 0,
    repCount: high & 0xfff,
    repStart: (high >>> 16) & 0xfff,
    reserved: (value & RESERVED_BITS) !== 0n,
  };
}

/** The hypercall result value (§2.3). */
export const resultWord = (status: number, repsCompleted: number): bigint => BigInt(status) | (BigInt(repsCompleted) << 32n);

// --- inputs and outputs (§2.7). Field names are the TLFS's; fields called Padding or RsvdZ are never looked at. -----------

export const HvInputVpRegisters = struct(
  'HV_INPUT_GET_VP_REGISTERS',
  { PartitionId: u64, VpIndex: u32, InputVtl: u8, Padding: bytes(3) },
  { size: 16 },
);
export const HvRegisterAssoc = struct('HV_REGISTER_ASSOC', { Name: u32, Padding: bytes(12), Value: u128 }, { size: 32 });

/** Payload bytes of a SynIC message (§6.2). */
export const HV_MESSAGE_PAYLOAD_BYTE_COUNT = 240;
export const HvInputPostMessage = struct(
  'HV_INPUT_POST_MESSAGE',
  { ConnectionId: u32, RsvdZ: u32, MessageType: u32, PayloadSize: u32, Payload: bytes(HV_MESSAGE_PAYLOAD_BYTE_COUNT) },
  { size: 256 },
);
export const HvInputSignalEvent = struct(
  'HV_INPUT_SIGNAL_EVENT',
  { ConnectionId: u32, FlagNumber: u16, RsvdZ: u16 },
  { size: 8 },
);
export const HvOutputGetPartitionId = struct('HV_OUTPUT_GET_PARTITION_ID', { PartitionId: u64 });
export const HvInputNotifyLongSpinWait = struct('HV_INPUT_NOTIFY_LONG_SPIN_WAIT', { SpinCount: u64 });
export const HvInputFlush = struct('HV_INPUT_FLUSH_VIRTUAL_ADDRESS_SPACE', { AddressSpace: u64, Flags: u64, ProcessorMask: u64 });
/** The banks of the processor set are the variable header. */
export const HvInputFlushEx = struct('HV_INPUT_FLUSH_VIRTUAL_ADDRESS_SPACE_EX', {
  AddressSpace: u64,
  Flags: u64,
  Format: u64,
  ValidBankMask: u64,
});
export const HvInputSendSyntheticClusterIpi = struct('HV_INPUT_SEND_SYNTHETIC_CLUSTER_IPI', {
  Vector: u32,
  TargetVtl: u8,
  Flags: u8,
  Reserved: u16,
  ProcessorMask: u64,
});
/** The banks of the processor set are the variable header. */
export const HvInputSendSyntheticClusterIpiEx = struct('HV_INPUT_SEND_SYNTHETIC_CLUSTER_IPI_EX', {
  Vector: u32,
  TargetVtl: u8,
  Flags: u8,
  Reserved: u16,
  Format: u64,
  ValidBankMask: u64,
});
export const HvInputStartVirtualProcessor = struct('HV_INPUT_START_VIRTUAL_PROCESSOR', {
  PartitionId: u64,
  VpIndex: u32,
  TargetVtl: u8,
  Padding: bytes(3),
  Pc: u64,
  SpElh: u64,
  SctlrEl1: u64,
  MairEl1: u64,
  TcrEl1: u64,
  VbarEl1: u64,
  Ttbr0El1: u64,
  Ttbr1El1: u64,
  X18: u64,
});
export const HvOutputExtQueryCapabilities = struct('HV_EXT_OUTPUT_QUERY_CAPABILITIES', { Capabilities: u64 });
export const HV_EXT_CAPABILITY_MEMORY_COLD_DISCARD_HINT = 1n << 8n;
/** Ranges follow; the bits above the type are reserved. */
export const HvInputExtMemoryHeatHint = struct('HV_MEMORY_HINT', { HeatType: u64 });
export const HV_EXT_MEMORY_HEAT_HINT_TYPE = { cold: 0n, hot: 1n, coldDiscard: 2n } as const;

/** Flags of the flush calls (§2.7). */
export const HV_FLUSH_ALL_PROCESSORS = 1n;
export const HV_FLUSH_USE_EXTENDED_RANGE_FORMAT = 8n;
/** HV_GENERIC_SET_FORMAT. */
export const HV_GENERIC_SET_SPARSE_4K = 0n;
export const HV_GENERIC_SET_ALL = 1n;

// --- SynIC memory (§6.2, §6.3) --------------------------------------------------------------------------------------------

export const HvMessageHeader = struct(
  'HV_MESSAGE_HEADER',
  { MessageType: u32, PayloadSize: u8, MessageFlags: u8, Reserved: u16, Origin: u64 },
  { size: 16 },
);
export const HV_MESSAGE_SIZE = 256;
export const HV_EVENT_FLAGS_COUNT = 2048;
export const HV_SYNIC_SINT_COUNT = 16;
export const HV_MESSAGE_FLAG_PENDING = 1;
export const HvMessageTypeNone = 0;
export const HvMessageTypeTimerExpired = 0x8000_0010;
export const HvTimerMessagePayload = struct('HV_TIMER_MESSAGE_PAYLOAD', {
  TimerIndex: u32,
  Reserved: u32,
  ExpirationTime: u64,
  DeliveryTime: u64,
});

/** HV_REFERENCE_TSC_PAGE (§5.1). */
export const HvReferenceTscPage = struct(
  'HV_REFERENCE_TSC_PAGE',
  {
    TscSequence: u32,
    Reserved: u32,
    TscScale: u64,
    TscOffset: u64,
    TimelineBias: u64,
    TscMultiplier: u64,
    Reserved2: array(507, u64),
  },
  { size: HV_PAGE },
);
