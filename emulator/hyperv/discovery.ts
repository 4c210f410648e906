/** How a guest finds out that it runs on Hyper-V (reference hyperv-arm64.md §1). */

/**
 * How a guest can find out that it runs on Hyper-V: the hypervisor id in ACPI's FADT (which a guest that is started by device tree
 * does not get), and the SMCCC vendor hypervisor UID, which only newer hosts answer.
 */
export const DISCOVERY = ['acpi', 'smccc'] as const;
export type Discovery = (typeof DISCOVERY)[number];

/** SMCCC vendor hypervisor UID call: fast, SMC32, owner 6, function 0xFF01. */
export const VENDOR_HYP_UID = 0x8600ff01;

/** W0..W3 of its answer: UUID 58ba324d-6447-24cd-756c-ef8e24705916. */
export const HYPERV_UID = [0x4d32ba58n, 0xcd244764n, 0x8eef6c75n, 0x16597024n] as const;
