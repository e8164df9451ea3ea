/**
 * The library's face, as far as it is the same on every platform; the entries add a way to make engines.
 */
export { BlockError, CommandError, ImageError, errnoOf, type QmpErrorClass } from "../base/errors.ts";
export { type Errno, strerror } from "../base/errno.ts";
export type * from "../base/host.ts";
export { limits } from "../base/limits.ts";
export type {
  BlockDriver,
  BlockLimits,
  BlockStatus,
  DriverType,
  NodeSpec,
  OpenContext,
} from "../block/model/contract.ts";
export {
  type Gate,
  type GateAnswer,
  type GatePolicy,
  type GateRequest,
  denyGate,
  fileGate,
  urlGate,
} from "../block/model/gate.ts";
export type { BlockNode } from "../block/model/node.ts";
export { BackupJob } from "../job/backup/job.ts";
export { BlockJob } from "../job/core/block-job.ts";
export { CommitJob } from "../job/commit/commit.ts";
export type { BlockErrorAction, IoStatus, OnError } from "../job/core/error-policy.ts";
export { JobEvent, type JobEventName, type JobEvents, type JobListener } from "../job/core/events.ts";
export type { JobStatus, JobVerb } from "../job/core/verbs.ts";
export { Job, JobCancelledError, type JobResult } from "../job/core/job.ts";
export type { ProgressOptions, ProgressReport } from "../job/core/progress-report.ts";
export { MirrorJob } from "../job/mirror/job.ts";
export { StreamJob } from "../job/stream/stream.ts";
export { GuestDevice, type GuestDeviceOptions } from "../machine/device.ts";
export { Engine } from "../machine/engine.ts";
export type { GuestDisk, GuestMachine } from "../machine/guest-disk.ts";
export type { RunState } from "../machine/machine.ts";
export { type EngineCommandsOptions, engineCommands } from "../server/monitor/commands/index.ts";
export {
  type AnyClientEvent,
  type ClientEvent,
  type CommandHandlers,
  CommandRegistry,
  QmpClient,
  QmpClientEvent,
  type QmpConnectOptions,
  QmpSession,
  type QmpSessionOptions,
} from "../server/monitor/index.ts";
export type {
  ArgsOf,
  BlockdevOptions,
  BlockdevRef,
  CommandName,
  EventDataOf,
  EventName,
  ObjectOptions,
  QmpEvent,
  ReturnOf,
} from "../wire/qapi/index.ts";
export { type AmendChanges, type AmendImageOptions, amend } from "./amend.ts";
export { type AutoResumeOptions, autoCont, autoResume } from "./auto-resume.ts";
export type { CheckOptions, CheckReport } from "./check.ts";
export { changeMirror, isActivelySynced, type MirrorChanges } from "./copy-mode.ts";
export type { FromBlobOptions } from "./blob.ts";
export {
  type AddBitmapOptions,
  type BitmapInfo,
  type BitmapSource,
  addBitmap,
  bitmaps,
  clearBitmap,
  dirtyRanges,
  enableBitmap,
  mergeBitmaps,
  removeBitmap,
} from "./bitmaps.ts";
export {
  type ImageStreamOptions,
  /** @deprecated The former name of ImageStreamOptions. */
  type ImageStreamOptions as ExportOptions,
  imageStream,
  /** @deprecated The former name of imageStream(). */
  imageStream as exportDisk,
} from "./image-stream.ts";
export { type CommitOverlayOptions, commitOverlay } from "./commit.ts";
export { CompareError, type CompareOptions, type CompareResult, compare } from "./compare.ts";
export { type ConvertOptions, CopyError, CopyStatusError, type UnreadRange, convert } from "./convert.ts";
export type { EngineOptions, EnginePlatform } from "./engine.ts";
export {
  type BackupOptions,
  type CommitOptions,
  type FleecingOptions,
  type JobOptions,
  type MirrorOptions,
  type NodeRef,
  type StreamOptions,
  backup,
  commit,
  mirror,
  stream,
  whenReady,
} from "./jobs.ts";
export type { GuestDiskOptions } from "./guest.ts";
export type { ImportImageOptions, ImportImageSpec } from "./import.ts";
export type { ListImagesOptions, StoredImage } from "./stored.ts";
export {
  type ImageMapEntry,
  type MapExtent,
  type MapRange,
  imageMap,
  /** @deprecated The former name of imageMap(). */
  imageMap as map,
} from "./map.ts";
export type { ImageRef } from "./named.ts";
export type { ProbeResult } from "./probe.ts";
export type { WholeDiskOptions } from "./running-guest.ts";
export { type MeasureOptions, type MeasureResult, measure } from "./measure.ts";
export { type MonitorOptions, serveMonitor } from "./monitor.ts";
export { type CallOptions, type ChainLayer, type ImageInfo, Node } from "./node.ts";
export type { CreateImageOptions, CreateImageSpec, NewFile, OpenOptions } from "./open.ts";
export type {
  AllocTrackOptions,
  BlobOptions,
  CustomSpec,
  DriverName,
  DriverSpec,
  HttpDiskOptions,
  MemoryBufferOptions,
  MemoryOptions,
  OpenChild,
  OpenSpec,
  SnapshotAccessOptions,
} from "./specs.ts";
export {
  type HttpOptions,
  blob,
  custom,
  file,
  http,
  indexeddb,
  luks,
  memory,
  opfs,
  overlay,
  qcow2,
  raw,
} from "./builders.ts";
export type { CreateLuksOptions, CreateQcow2Options, CreateRawOptions } from "../drivers/index.ts";
export { type LiveRestore, type LiveRestoreOptions, liveRestore } from "./live-restore.ts";
export { discardOverlay } from "./overlay.ts";
export { type ManifestOptions, makeManifest } from "./manifest.ts";
export type { CheckpointRef } from "./checkpoint/file.ts";
export type { ResumedConversion, ResumedJob, ResumeJobOptions } from "./resume-job.ts";
export { type RebaseOptions, type RebaseTarget, rebase } from "./rebase.ts";
export { type ResizeOptions, resize } from "./resize.ts";
export {
  type SnapshotInfo,
  type SnapshotRef,
  applySnapshot,
  createSnapshot,
  removeSnapshot,
  showSnapshot,
  snapshots,
} from "./snapshots.ts";
export { type TransactionJobs, type TransactionOptions, transaction } from "./transaction.ts";
export type {
  AbortAction,
  AddBitmapAction,
  BackupAction,
  BitmapAction,
  CreateSnapshotAction,
  EnableBitmapAction,
  MergeBitmapsAction,
  OverlayAction,
  TransactionAction,
} from "./transaction-actions.ts";
export { type NodeStats, type OperationStats, metrics, stats } from "./stats.ts";
export { STREAM_CHUNK_BYTES, type StreamRange } from "./streams.ts";
export type { PortLike } from "./worker/port.ts";
export { portConnection } from "./worker/port-connection.ts";
export { RemoteDisk, type RemoteDiskOptions } from "./worker/remote-disk.ts";
export { RemoteEngine, connectEngine } from "./worker/remote-engine.ts";
export type { RemoteDiskRef } from "./worker/remote-images.ts";
export { serveEngine } from "./worker/serve.ts";
export type { ServeEngineOptions } from "./worker/service.ts";
export type { WorkerEngine } from "./worker/worker-engine.ts";
export { openGuestDiskIn } from "./guest-disk/open.ts";
export type { OpenGuestDiskOptions } from "./guest-disk/options.ts";
export type { OpenedGuestDisk } from "./guest-disk/disk.ts";
export type { GuestDiskCause, GuestDiskStatus } from "./guest-disk/status.ts";
