/**
 * Every limit of the library, named, in one place. They are checked before anything is allocated.
 * Where QEMU has the limit, its value is taken; the rest are ours.
 */

/** 2^10. */
export const KiB = 1024;
/** 2^20. */
export const MiB = 1024 * KiB;
/** 2^30. */
export const GiB = 1024 * MiB;

/** The unit of request bookkeeping in QEMU: 512 bytes. */
export const SECTOR_SIZE = 512;

/** All limits; the unit is in the name, bytes where none is. */
export const limits = {
  /** Largest virtual size: 2^53 - 2^33 bytes rounded down to 64 KiB, so that every end offset is a safe integer. */
  maxImageBytes: 2 ** 53 - 2 ** 33,
  /** Longest backing chain that is opened. */
  maxChainDepth: 200,
  /** Longest file name taken from an image's header, bytes (QEMU: 1023). */
  maxBackingNameBytes: 1023,
  /** LUKS: iterations of PBKDF2 that a header may ask for, of all slots in use together: about half a minute's work. */
  luksMaxIterations: 2 ** 26,
  /** Longest node name (QEMU: 31). */
  maxNodeNameLength: 31,
  /** Smallest granularity of a dirty bitmap, and the largest of a mirror's and of any, bytes (QEMU's). */
  minGranularity: SECTOR_SIZE,
  maxGranularity: 64 * MiB,
  maxBitmapGranularity: 2 * GiB,
  /** Most memory that one dirty bitmap may take, bytes: as much as qcow2 stores of one. */
  maxBitmapBytes: 512 * MiB,
  /** Most memory that all dirty bitmaps together may take, bytes. */
  maxBitmapPoolBytes: GiB,
  /** Longest bitmap name, bytes. */
  maxBitmapNameBytes: 1023,
  /** Most bitmaps in a qcow2 image, and bytes of their directory (QEMU's). */
  qcow2MaxBitmaps: 65_535,
  qcow2MaxBitmapDirectoryBytes: 64 * MiB,
  /** Bytes of one bitmap in a qcow2 image (QEMU's). */
  qcow2MaxBitmapBytes: 512 * MiB,
  /** Default size of the I/O arena, bytes. */
  arenaBytes: 64 * MiB,
  /** Longest QMP line and deepest nesting that a monitor takes. */
  maxQmpMessageBytes: 64 * MiB,
  maxQmpDepth: 1024,
  /** Commands that a monitor queues before it stops reading. */
  maxQmpQueue: 8,
  /** Most tokens in one QMP message. */
  maxQmpTokens: 2 ** 20,
  /** Bytes that wait for a QMP client that does not read; one that is behind by more is dropped. */
  maxQmpOutputBytes: 16 * MiB,
  /** Events that wait in a client for an iterator that does not take them. */
  maxQmpClientEvents: 65_536,
  /** NBD: bytes of a name or another string (the protocol's), of an option's payload and of a request's data (QEMU's). */
  nbdMaxStringBytes: 4096,
  nbdMaxOptionBytes: 32 * MiB,
  /** NBD: bytes of an option's or an option reply's payload that is kept to be read; a longer one is passed over. */
  nbdMaxOptionKeptBytes: MiB,
  nbdMaxPayloadBytes: 32 * MiB,
  /** NBD: the largest of the least requests that a server may ask for, bytes (the protocol's). */
  nbdMaxMinimumBlockBytes: 64 * KiB,
  /** Bytes of one file of TLS credentials. */
  tlsMaxFileBytes: MiB,
  /** NBD: bytes of requests' data that a server has in memory, and requests that one client has under way (QEMU's). */
  nbdServerBytes: 16 * MiB,
  nbdClientRequests: 16,
  /** NBD: clients of a server at a time where nobody says how many (QEMU's). */
  nbdMaxConnections: 100,
  /** NBD: extents in one reply on block status (QEMU's), and metadata contexts that one client may choose. */
  nbdMaxStatusExtents: 131_072,
  nbdMaxMetaContexts: 1024,
  /** NBD: seconds that a client may take for its handshake (QEMU's since 10.0). */
  nbdHandshakeSeconds: 10,
  /** Bytes of one request, and extents of one answer, between a page and the engine in its worker. */
  maxRemoteBytes: 4 * MiB,
  maxRemoteExtents: 4096,
  /** qcow2: cluster_bits, bytes of the L1 and of the refcount table, snapshots (QEMU's values). */
  qcow2MinClusterBits: 9,
  qcow2MaxClusterBits: 21,
  /** qcow2: the least cluster_bits with subclusters, which are sectors at least (QEMU's). */
  qcow2MinExtendedClusterBits: 14,
  qcow2MaxL1Bytes: 32 * MiB,
  qcow2MaxRefcountTableBytes: 8 * MiB,
  qcow2MaxSnapshots: 65536,
  /** qcow2: bytes of the snapshot table, of one snapshot's extra data and name (QEMU's values). */
  qcow2MaxSnapshotTableBytes: 64 * MiB,
  qcow2MaxSnapshotExtraBytes: 1024,
  maxSnapshotNameBytes: 255,
  /** Window of a zstd frame, bytes: what every decoder is advised to take. */
  zstdMaxWindowBytes: 8 * MiB,
  /** Bytes of writes that v86 was told are done and that wait for the disk; above it the emulator waits. */
  v86MaxPendingBytes: 16 * MiB,
  /** http: bytes of a cluster, of a part and of a cache, at most. */
  httpMaxClusterBytes: 2 * MiB,
  httpMaxPartBytes: 64 * MiB,
  httpMaxCacheBytes: GiB,
  /** http: bytes of a manifest. */
  httpMaxManifestBytes: 256 * MiB,
  /** The chunk store: bytes of a pack and of a blob in it, and of a backup's description, at most. */
  storeMaxPackBytes: 64 * MiB,
  storeMaxBlobBytes: 64 * KiB,
  storeMaxDescriptionBytes: MiB,
  /** qcow2: clusters of a file whose references are counted at once (64 MiB of counters). */
  qcow2MaxRepairClusters: 2 ** 24,
  /** qcow2: bytes of tables that one check reads: so many, and so many times the file's length. */
  qcow2CheckReadBytes: 256 * MiB,
  qcow2CheckReadFactor: 64,
} as const;
