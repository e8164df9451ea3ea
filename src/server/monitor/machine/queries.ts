/**
 * What a machine without a guest answers to what clients ask first, and the names of commands that it refuses
 * since there is nothing behind them. Source: QAPI machine and misc schemas, behaviour of QEMU 7.2.
 */
import { CommandError } from "../../../base/errors.ts";
import { LatencyHistogram } from "../../../block/model/latency.ts";
import type { Board } from "../../../machine/board/board.ts";
import { startSnapshotJob } from "../../../machine/board/snapshot-jobs.ts";
import type { MachineArgsOf } from "../../../wire/qapi/machine/table.ts";

/** What a machine was told of itself. */
export interface MachineIdentity {
  /** Of `-name`. */
  readonly name?: string;
  /** Of `-uuid`. */
  readonly uuid?: string;
  /** Of `-machine`: `pc` or `none`. */
  readonly machine: "pc" | "none";
}

const cpus = { "hotpluggable-cpus": true, "numa-mem-supported": false, deprecated: false } as const;

/** Handlers of the questions. */
export function identityHandlers({ name, uuid }: MachineIdentity, release: string): object {
  return {
    "query-kvm": () => ({ enabled: false, present: false }),
    "query-name": () => (name === undefined ? {} : { name }),
    "query-uuid": () => ({ UUID: uuid ?? "00000000-0000-0000-0000-000000000000" }),
    "query-target": () => ({ arch: "x86_64" }),
    "query-current-machine": () => ({ "wakeup-suspend-support": false }),
    "query-cpus-fast": () => [],
    "query-machines": () => [
      { name: "none", "cpu-max": 1, ...cpus, "hotpluggable-cpus": false, "default-ram-id": "ram" },
      {
        ...{ name: `pc-i440fx-${release}`, alias: "pc", "is-default": true, "cpu-max": 255, ...cpus },
        ...{ "default-cpu-type": "qemu64-x86_64-cpu", "default-ram-id": "pc.ram" },
      },
    ],
  };
}

/** Handlers of snapshots of named disks. */
export function snapshotHandlers(board: Board): object {
  const start = (kind: "snapshot-save" | "snapshot-load" | "snapshot-delete") => ({
    [kind]: async (args: MachineArgsOf<"snapshot-save">) => {
      await startSnapshotJob(board, kind, args);
      return {};
    },
  });
  return { ...start("snapshot-save"), ...start("snapshot-load"), ...start("snapshot-delete") };
}

const kinds = ["read", "write", "flush"] as const;

/** block-latency-histogram-set: boundaries for each kind, or none of any. Throws CommandError; kinds before the wrong one have changed. */
export function setHistograms(board: Board, args: MachineArgsOf<"block-latency-histogram-set">): void {
  const { account } = board.driveOf({ id: args.id });
  const given = kinds.map((kind) => ({ kind, own: args[`boundaries-${kind}`] ?? args.boundaries }));
  if (given.every(({ own }) => own === undefined)) {
    for (const kind of kinds) delete account.latency[kind];
    return;
  }
  for (const { kind, own } of given) {
    if (!own) continue;
    const ascends = own.every((boundary, at) => boundary > (at === 0 ? 0 : (own[at - 1] ?? 0)));
    if (!ascends) throw new CommandError(`Device '${args.id}' set ${kind} boundaries fail`);
    account.latency[kind] = new LatencyHistogram(own);
  }
}

/** Commands of QEMU's machine that this one refuses by name, and why. */
export const refusedCommands: Readonly<Record<string, string>> = Object.fromEntries(
  Object.entries({
    "migration is not supported by this machine": `migrate migrate_cancel migrate-continue migrate-incoming migrate-pause
      migrate-recover migrate-set-capabilities migrate-set-parameters migrate-start-postcopy query-migrate
      query-migrate-capabilities query-migrate-parameters client_migrate_info calc-dirty-rate query-dirty-rate
      xen-save-devices-state xen-load-devices-state x-colo-lost-heartbeat query-colo-status`,
    "this machine has no CPU": `inject-nmi memsave pmemsave dump-guest-memory query-dump query-cpu-definitions
      query-cpu-model-expansion query-hotpluggable-cpus query-memory-size-summary query-memory-devices query-memdev balloon
      query-balloon query-sev query-sev-capabilities query-sgx query-sgx-capabilities set-numa-node`,
    "this machine has no display and no input": `screendump send-key input-send-event query-mice query-vnc query-vnc-servers
      query-spice change-vnc-password set_password expire_password display-reload display-update query-display-options`,
    "this machine has no network": `netdev_add netdev_del set_link query-rx-filter announce-self add_client`,
    "this machine has no guest": `system_powerdown system_wakeup rtc-reset-reinjection watchdog-set-action set-action
      query-acpi-ospm-status query-vm-generation-id query-tpm query-tpm-models query-tpm-types query-pci`,
    "this program has no tracing of that kind": `trace-event-get-state trace-event-set-state query-stats query-stats-schemas`,
    "nothing here can be yanked": `yank query-yank`,
    "this machine neither records nor replays": `replay-break replay-delete-break replay-seek query-replay`,
  }).flatMap(([why, names]) => names.split(/\s+/).map((name) => [name, why])),
);
