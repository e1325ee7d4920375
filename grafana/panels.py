"""What every dashboard of DGFS shows: tables of panels, each a title, a sentence, a unit and its queries.

A query is (PromQL, legend). `rare(...)` is for what is absent while all is well: it shows 0 then. generate.py makes Grafana's JSON
of it, pictures.py the pictures of the documentation. Targets have the labels job, instance, name and machine; the variables are
`$name` (a process), `$mount` and `$op`."""

RATE = "$__rate_interval"


def rare(expr):
    """A query that has no series before the first event."""
    return f"({expr}) or vector(0)"


def p(quantile, metric, by, where=""):
    """A quantile of a histogram."""
    return f"histogram_quantile({quantile}, sum by ({by}, le) (rate({metric}_bucket{{{where}}}[{RATE}])))"


def rate(metric, by, where=""):
    """Events a second."""
    return f"sum by ({by}) (rate({metric}{{{where}}}[{RATE}]))"


def graph(title, text, unit, *queries, width=8, stack=False, top=None):
    """Lines over time."""
    return {"kind": "timeseries", "title": title, "text": text, "unit": unit, "queries": queries, "width": width, "height": 8, "stack": stack, "max": top}


def number(title, text, unit, expr, legend="", bad=None, words=None, width=4):
    """One number, or one for each series; `bad` colours it from there on (a pair: down to there), `words` says it in words."""
    return {"kind": "stat", "title": title, "text": text, "unit": unit, "queries": [(expr, legend)], "width": width, "height": 4, "bad": bad, "words": words}


def table(title, text, unit, expr, columns, width=12, height=8):
    """A row for each series; `columns` are the labels shown, in their order."""
    return {"kind": "table", "title": title, "text": text, "unit": unit, "queries": [(expr, "")], "width": width, "height": height, "columns": columns}


def states(title, text, expr, legend, words, width=24):
    """What state each thing was in, over time."""
    return {"kind": "state-timeline", "title": title, "text": text, "unit": "none", "queries": [(expr, legend)], "width": width, "height": 7, "words": words}


def text(title, sentence, content, width=24, height=6):
    """Words."""
    return {"kind": "text", "title": title, "text": sentence, "unit": "", "queries": [], "width": width, "height": height, "content": content}


YES_NO = {0: ("no", "red"), 1: ("yes", "green")}
UP_DOWN = {0: ("down", "red"), 1: ("up", "green")}
OFF_ON = {0: ("no", "green"), 1: ("yes", "red")}
N = 'name=~"$name"'
M = 'name=~"$mount"'
O = 'op=~"$op"'

OVERVIEW = [
    number("Available", "Everything can be read and written, if perhaps with fewer copies: a metadata service is active, Redis answers, every partition has enough holders.", "none", "dgfs:cluster:available", "available", words=YES_NO),
    number("Healthy", "Available, and nothing is missing: all servers up, all partitions full, all processes answer.", "none", "dgfs:cluster:healthy", "healthy", words=YES_NO),
    number("Alerts", "Alerts that fire now.", "none", rare('count(ALERTS{alertname=~"Dgfs.*",alertstate="firing"})'), "firing", bad=1),
    number("Storage servers down", "Storage servers the metadata service has not heard from for 5 s.", "none", 'max(dgfs_meta_storage_servers{state="down"})', "down", bad=1),
    number("Room left", "Bytes that the storage servers can still take, copies not counted.", "bytes", "dgfs:cluster:free_bytes", "free"),
    number("Files and directories", "Inodes in use.", "short", "max(dgfs_meta_inodes)", "inodes"),
    graph("Healthy and available", "1: yes. Available without healthy: redundancy is missing, but nobody waits. Neither: somebody waits.", "none", ("dgfs:cluster:available", "available"), ("dgfs:cluster:healthy", "healthy"), top=1.05),
    graph("Operations of all mounts", "Requests of the kernels a second, by operation.", "ops", (rate("dgfs_mount_operations_total", "op") + " > 0", "{{op}}"), stack=True),
    graph("Latency at the mounts", "99 of 100 requests of the operation are answered in this time.", "s", ('topk(6, op:dgfs_mount_operation_seconds:p99 >= 0)', "{{op}}")),
    graph("Data read and written", "Bytes a second at the storage servers: every copy counts.", "Bps", ("dgfs:cluster:read_bytes:rate1m", "read"), ("dgfs:cluster:written_bytes:rate1m", "written")),
    graph("Partitions that are not full", "Degraded: fewer copies than wanted. Under minimum: writes wait. Unavailable: reads wait, too.", "none", ('sum by (state) (dgfs_meta_partitions{state!="full"})', "{{state}}"), stack=True),
    graph("Room", "Capacity of all disks and what is free for data.", "bytes", ("dgfs:cluster:capacity_bytes", "capacity"), ("dgfs:cluster:free_bytes", "free")),
    states("Processes that answer", "Does each process answer Prometheus?", 'up{job=~"dgfs-.*"}', "{{job}} {{name}}", UP_DOWN),
    table("Alerts that fire", "What fires now, with its severity; the runbook has a section for each.", "none", 'ALERTS{alertname=~"Dgfs.*",alertstate="firing"} or label_replace(vector(0), "alertname", "none", "", "")', ["alertname", "severity", "name", "class"], width=24),
]

SERVERS = [
    number("Up", "Storage servers that the active metadata service hears from.", "none", 'max(dgfs_meta_storage_servers{state="up"})', "up"),
    number("Down", "Storage servers it does not hear from.", "none", 'max(dgfs_meta_storage_servers{state="down"})', "down", bad=1),
    number("Given up", "Away for longer than the grace time: their copies are rebuilt on others.", "none", 'max(dgfs_meta_storage_servers{state="out"})', "out", bad=1),
    number("Capacity", "Bytes of all their disks.", "bytes", "sum(dgfs_stored_capacity_bytes)", "capacity"),
    number("Free", "Bytes they can still take.", "bytes", "sum(dgfs_stored_free_bytes)", "free"),
    number("Chunk versions", "Chunk versions held, copies counted.", "short", "sum(dgfs_stored_versions)", "versions"),
    number("Members of the cluster", "Processes that announced themselves, by kind.", "none", "max by (kind) (dgfs_meta_members)", "{{kind}}"),
    states("State of each server", "As the active metadata service sees it.", "dgfs_meta_server_up and on (instance) dgfs_meta_active == 1", "{{label}}", UP_DOWN),
    graph("Silence of each server", "Seconds since the metadata service heard of it; down after 5 s.", "s", ("max by (server) (dgfs_meta_server_silent_seconds)", "server {{server}}")),
    graph("Scrape duration", "How long each process takes to answer Prometheus; one that hangs takes the whole time limit.", "s", ('scrape_duration_seconds{job=~"dgfs-.*"}', "{{job}} {{name}}")),
    graph("Room by server", "Bytes each can still take.", "bytes", ("sum by (name) (dgfs_stored_free_bytes)", "{{name}}")),
    graph("Reads", "Bytes read a second.", "Bps", (rate("dgfs_stored_get_bytes_total", "name"), "{{name}}")),
    graph("Writes", "Bytes written a second.", "Bps", (rate("dgfs_stored_put_bytes_total", "name"), "{{name}}")),
    graph("Disk syncs", "Syncs a second; many writes share one.", "ops", (rate("dgfs_stored_syncs_total", "name"), "{{name}}")),
    graph("Clock offset", "A process's clock minus the metadata service's; more than 2 s is an alert.", "s", ("dgfs_clock_offset_seconds", "{{job}} {{name}}")),
    graph("Days until certificates end", "When it is 0, the process is out of the cluster; 30 days before it is an alert.", "d", ("(dgfs_certificate_expiry_timestamp_seconds - time()) / 86400", "{{job}} {{name}}")),
    table("Versions", "Which build each process runs.", "none", "dgfs_build_info", ["part", "name", "version", "instance"]),
    table("Room by server, now", "Free bytes of each.", "bytes", "sort(sum by (name, instance) (dgfs_stored_free_bytes))", ["name", "instance"]),
]

SERVER = [
    number("Answers", "Does it answer Prometheus?", "none", f'min(up{{{N}}})', "up", words=UP_DOWN),
    number("Read-only", "The disk refused the last write.", "none", f"max(dgfs_stored_disk_read_only{{{N}}})", "read-only", words=OFF_ON),
    number("Metadata service silent for", "Since it answered a heartbeat.", "s", f"max(dgfs_stored_meta_silent_seconds{{{N}}})", "silent", bad=5),
    number("Map epoch", "The map it works by; the same everywhere but for moments.", "none", f"max(dgfs_stored_map_epoch{{{N}}})", "epoch"),
    number("Waste", "Bytes in segments that nothing refers to; compaction takes them back.", "bytes", f"sum(dgfs_stored_waste_bytes{{{N}}})", "waste"),
    number("Damaged or lost versions", "Found damaged at a read, or missing at the start.", "none", f"sum(dgfs_stored_damaged_reads_total{{{N}}}) + sum(dgfs_stored_lost_versions{{{N}}})", "damaged", bad=1),
    graph("Room", "Of its disk.", "bytes", (f"dgfs_stored_capacity_bytes{{{N}}}", "{{name}} capacity"), (f"dgfs_stored_used_bytes{{{N}}}", "{{name}} used"), (f"dgfs_stored_free_bytes{{{N}}}", "{{name}} free")),
    graph("Operations", "Requests a second, by operation.", "ops", (rate("dgfs_stored_operation_seconds_count", "op", N), "{{op}}")),
    graph("Latency of operations", "Median and 99th percentile.", "s", (p(0.5, "dgfs_stored_operation_seconds", "op", N), "{{op}} p50"), (p(0.99, "dgfs_stored_operation_seconds", "op", N), "{{op}} p99")),
    graph("Sync latency", "How long a sync of the disk takes; above half a second is an alert.", "s", (p(0.5, "dgfs_stored_sync_seconds", "name", N), "{{name}} p50"), (p(0.99, "dgfs_stored_sync_seconds", "name", N), "{{name}} p99")),
    graph("Waiting for the disk", "How long the oldest read, write or sync under way has been waited for; above ten seconds is an alert.", "s", (f"dgfs_stored_disk_waiting_seconds{{{N}}}", "{{name}}")),
    graph("Disk errors", "Answers of the operating system that were errors, by kind.", "ops", (rare(rate("dgfs_stored_disk_errors_total", "kind", N)), "{{kind}}")),
    graph("Refused operations", "By operation and status.", "ops", (rare(rate("dgfs_stored_operation_errors_total", "op, status", N)), "{{op}} {{status}}")),
    graph("Reads and writes", "Bytes a second.", "Bps", (rate("dgfs_stored_get_bytes_total", "name", N), "{{name}} read"), (rate("dgfs_stored_put_bytes_total", "name", N), "{{name}} written")),
    graph("Data and what they take", "Bytes of data in use, and what their records take: less where they are compressed.", "bytes", (f"dgfs_stored_live_bytes{{{N}}}", "{{name}} data"), (f"dgfs_stored_record_bytes{{{N}}}", "{{name}} on disk")),
    graph("Memory", "Resident memory of the process.", "bytes", (f"process_resident_memory_bytes{{{N}}}", "{{name}}")),
    graph("Processor", "Seconds of processor time a second.", "percentunit", (f"rate(process_cpu_seconds_total{{{N}}}[{RATE}])", "{{name}}")),
    graph("Open file descriptors", "And how many it may have.", "none", (f"process_open_fds{{{N}}}", "{{name}}"), (f"process_max_fds{{{N}}}", "{{name}} limit")),
    graph("Lateness of timers", "99 of 100 timers of the runtime fire at most so late.", "s", (p(0.99, "dgfs_runtime_lag_seconds", "name", N), "{{name}}")),
]

METADATA = [
    number("Active", "Exactly one should be.", "none", "sum(dgfs_meta_active)", "active", bad=(0, 0)),
    number("Standbys", "Metadata services that would take over.", "none", "max(dgfs_meta_standbys)", "standbys", bad=(0, 0)),
    number("Redis answers", "Can the metadata service reach its engine?", "none", "min(dgfs_meta_redis_up)", "up", words=UP_DOWN),
    number("Redis keeps its promise", "Its settings fit the volume's durability level.", "none", "min(dgfs_meta_redis_durable)", "durable", words=YES_NO),
    number("Sessions", "Mounted clients.", "none", "max(dgfs_meta_sessions)", "sessions"),
    number("Locks of silent sessions", "Locks held by mounts that gave no sign of life for 5 s.", "none", "max(dgfs_meta_dead_session_locks)", "locks", bad=1),
    states("Active and standby", "Who writes, over time.", "dgfs_meta_active", "{{name}}", {0: ("standby", "blue"), 1: ("active", "green")}, width=12),
    graph("Changes and commits", "Changes applied, the batches they were committed in, and calls to the engine, a second.", "ops", (f"sum(rate(dgfs_meta_mutations_total[{RATE}]))", "changes"), (f"sum(rate(dgfs_meta_commit_groups_total[{RATE}]))", "commits"), (f"sum(rate(dgfs_meta_engine_calls_total[{RATE}]))", "engine calls"), width=12),
    graph("Operations", "Calls a second, by operation.", "ops", (rate("dgfs_meta_operation_seconds_count", "op", O), "{{op}}"), stack=True),
    graph("Latency of operations", "99th percentile, by operation.", "s", (p(0.99, "dgfs_meta_operation_seconds", "op", O), "{{op}}")),
    graph("Commit latency", "How long the engine takes for a batch.", "s", (p(0.5, "dgfs_meta_commit_seconds", "name"), "{{name}} p50"), (p(0.99, "dgfs_meta_commit_seconds", "name"), "{{name}} p99")),
    graph("Refused operations", "By operation and status; not found is daily life.", "ops", (rare(rate("dgfs_meta_operation_errors_total", "op, status")), "{{op}} {{status}}")),
    graph("Engine errors", "Commits or loads that failed.", "ops", (f"sum(rate(dgfs_meta_engine_errors_total[{RATE}]))", "errors")),
    graph("Size of commits", "Changes in a batch, on average.", "none", (f"sum(rate(dgfs_meta_commit_mutations_sum[{RATE}])) / (sum(rate(dgfs_meta_commit_mutations_count[{RATE}])) > 0) or vector(0)", "changes")),
    graph("Change log", "Events kept for consumers.", "none", ("max(dgfs_meta_log_events)", "events")),
    graph("Leases and recalls", "What mounts may cache, and how often a change takes it back.", "none", ("max(dgfs_meta_leases)", "leases"), (f"sum(rate(dgfs_meta_recalls_total[{RATE}]))", "recalls a second")),
    graph("Waiting", "Operations that wait for mounts to forget, requests that wait for a lock.", "none", ("max(dgfs_meta_recall_waits)", "recalls"), ("max(dgfs_meta_lock_waits)", "locks")),
    graph("Longest wait for a lock", "Of those that wait now.", "s", ("max(dgfs_meta_lock_wait_seconds_max)", "longest")),
    graph("Calls by mount", "The busiest mounts.", "ops", (f"sum by (host, mount) (rate(dgfs_meta_session_calls_total[{RATE}]))", "{{host}} {{mount}}")),
    graph("Rows in memory, garbage, orphans", "Rows cached; versions waiting to be dropped; inodes without a name that are open.", "short", ("max(dgfs_meta_rows_cached)", "rows"), ("max(dgfs_meta_garbage_versions)", "garbage"), ("max(dgfs_meta_orphans)", "orphans")),
    graph("Redis memory", "Used, and the limit (0: none).", "bytes", ("max(dgfs_meta_redis_used_memory_bytes)", "used"), ("max(dgfs_meta_redis_max_memory_bytes)", "limit")),
    graph("Redis log and snapshot", "1: the last write went well.", "none", ("min(dgfs_meta_redis_aof_enabled)", "log is kept"), ("min(dgfs_meta_redis_aof_last_write_ok)", "log written"), ("min(dgfs_meta_redis_rdb_last_save_ok)", "snapshot saved"), top=1.05),
    graph("Replica lag", "Bytes that the slowest replica of Redis lacks, and how many there are.", "bytes", ("max(dgfs_meta_redis_replica_lag_bytes)", "behind"), ("max(dgfs_meta_redis_replicas)", "replicas")),
    graph("Events of the cluster", "Written into the journal (`dgfs events`), by kind.", "ops", (rare(rate("dgfs_meta_events_total", "kind")), "{{kind}}")),
]

MOUNTS = [
    number("Mounts that answer", "Processes of mounts that answer Prometheus.", "none", 'sum(up{job="dgfs-mount"})', "mounts"),
    number("Oldest request", "Age of the oldest request that is not answered, waits for locks left out.", "s", f"max(dgfs_mount_oldest_request_seconds{{{M}}})", "oldest", bad=15),
    number("Waiting requests", "Requests in work now.", "none", f"sum(dgfs_mount_operations_waiting{{{M}}})", "waiting"),
    number("Write errors", "Accepted writes that failed, since the mounts began.", "none", f"sum(dgfs_client_write_errors_total{{{M}}})", "errors", bad=1),
    number("Bytes not sent yet", "Written by programs, not yet at the storage servers.", "bytes", f"sum(dgfs_client_dirty_bytes{{{M}}})", "dirty"),
    number("Longest silence of a session", "As the metadata service sees it; fenced after 15 s.", "s", "max(dgfs_meta_session_silent_seconds_max)", "silent", bad=6),
    graph("Operations", "Requests of the kernel a second.", "ops", (rate("dgfs_mount_operations_total", "op", M + "," + O) + " > 0", "{{op}}"), stack=True),
    graph("Latency, median", "Half of the requests are answered in this time.", "s", (p(0.5, "dgfs_mount_operation_seconds", "op", M + "," + O), "{{op}}")),
    graph("Latency, 99th percentile", "99 of 100 requests are answered in this time.", "s", (p(0.99, "dgfs_mount_operation_seconds", "op", M + "," + O), "{{op}}")),
    graph("Errors", "Refused requests by operation and errno; ENOENT of lookups is daily life.", "ops", (rare(rate("dgfs_mount_operation_errors_total", "op, errno", M)), "{{op}} {{errno}}")),
    graph("Slow operations", "Took longer than `slow_ms`; the log has the time by stage.", "ops", (rare(rate("dgfs_mount_slow_operations_total", "op", M)), "{{op}}")),
    graph("Kernel's queue", "Requests that the kernel has no answer to yet; 0 where /sys/fs/fuse/connections is not mounted.", "none", (rare(f"dgfs_mount_kernel_waiting{{{M}}}"), "{{name}}")),
    graph("Calls to the metadata service", "By kind, a second.", "ops", (rate("dgfs_client_meta_calls_total", "kind", M) + " > 0", "{{kind}}"), stack=True),
    graph("Time of these calls", "99th percentile.", "s", (p(0.99, "dgfs_client_meta_call_seconds", "kind", M), "{{kind}}")),
    graph("Calls to storage servers", "By kind, a second.", "ops", (rate("dgfs_client_chunk_calls_total", "kind", M), "{{kind}}"), stack=True),
    graph("Time of these calls to storage", "99th percentile.", "s", (p(0.99, "dgfs_client_chunk_call_seconds", "kind", M), "{{kind}}")),
    graph("Failed calls to storage", "By kind; others copies were taken.", "ops", (rare(rate("dgfs_client_chunk_errors_total", "kind", M)), "{{kind}}")),
    graph("Unsent bytes and their limit", "Writers wait when the limit is reached.", "bytes", (f"dgfs_client_dirty_bytes{{{M}}}", "{{name}}"), (f"dgfs_client_dirty_limit_bytes{{{M}}}", "{{name}} limit")),
    graph("Cache", "Bytes in the memory cache and its limit.", "bytes", (f"dgfs_client_cache_bytes{{{M}}}", "{{name}}"), (f"dgfs_client_cache_limit_bytes{{{M}}}", "{{name}} limit"), (f"dgfs_client_disk_cache_bytes{{{M}}}", "{{name}} on disk")),
    graph("Cache hits", "Reads answered from memory and from the local disk, a second.", "ops", (rate("dgfs_client_cache_hits_total", "name", M), "{{name}} memory"), (rate("dgfs_client_disk_cache_hits_total", "name", M), "{{name}} disk"), (rate("dgfs_client_cache_misses_total", "name", M), "{{name}} misses")),
    graph("Changes made ahead", "Made before the metadata service answered; refused ones are an alert.", "ops", (rate("dgfs_client_kept_back_total", "name", M), "{{name}} made"), (rate("dgfs_client_kept_back_refused_total", "name", M), "{{name}} refused")),
    graph("Writers that waited", "For room among unsent bytes, a second.", "ops", (rate("dgfs_client_writes_waited_total", "name", M), "{{name}}")),
    graph("Metadata service silent for", "As each mount sees it.", "s", (f"dgfs_client_meta_silent_seconds{{{M}}}", "{{name}}")),
    states("Session ended", "1: the metadata service ended the session of the mount, which must be mounted again.", f"dgfs_client_session_ended{{{M}}}", "{{name}}", OFF_ON),
    graph("Conflicts and resumptions", "Commits that another writer was ahead of, sessions taken up again.", "ops", (rate("dgfs_client_conflicts_total", "name", M), "{{name}} conflicts"), (rate("dgfs_client_resumes_total", "name", M), "{{name}} resumed")),
]

CHUNKS = [
    number("Chunk versions", "Held by all servers, copies counted.", "short", "sum(dgfs_stored_versions)", "versions"),
    number("Working set, 5 minutes", "Chunks that were used in the last five minutes.", "short", 'sum(dgfs_stored_working_set_chunks{window="5m"})', "chunks"),
    number("Working set, a day", "Chunks that were used in the last day.", "short", 'sum(dgfs_stored_working_set_chunks{window="1d"})', "chunks"),
    number("Reads", "Ranges read a second.", "ops", f"sum(rate(dgfs_stored_gets_total[{RATE}]))", "reads"),
    number("Writes", "Versions put a second.", "ops", f"sum(rate(dgfs_stored_puts_total[{RATE}]))", "writes"),
    number("Segments", "Files that hold the chunks.", "short", "sum(dgfs_stored_segments)", "segments"),
    graph("Operations by class", "Reads, writes and errors a second.", "ops", (rate("dgfs_stored_chunk_operations_total", "class, kind"), "{{class}} {{kind}}"), width=12),
    graph("Bytes by class", "Read and written a second.", "Bps", (rate("dgfs_stored_chunk_bytes_total", "class, kind"), "{{class}} {{kind}}"), width=12),
    graph("Busiest partitions", "The ten partitions with most operations a second: even is good.", "ops", (f"topk(10, {rate('dgfs_stored_partition_operations_total', 'class, partition')})", "{{class}} {{partition}}"), width=12),
    graph("Working set", "Bytes of the chunks that were used, by window.", "bytes", ("sum by (window) (dgfs_stored_working_set_bytes)", "{{window}}"), width=12),
    table("Hottest chunks", "The most used ones of each server; `dgfs chunks top` names their files.", "short", "topk(20, sum by (chunk, kind, name) (dgfs_stored_hot_chunk_operations_total))", ["chunk", "kind", "name"], width=24, height=10),
]

REPAIR = [
    number("Partitions not full", "With fewer copies than wanted.", "none", 'sum(dgfs_meta_partitions{state!="full"})', "partitions", bad=1),
    number("Unavailable", "Partitions nobody can serve.", "none", 'sum(dgfs_meta_partitions{state="unavailable"})', "partitions", bad=1),
    number("Partitions to fetch", "Left to repair or to move, of all servers.", "none", "sum(dgfs_stored_repair_partitions)", "left"),
    number("Bytes to fetch", "As far as they are known.", "bytes", "sum(dgfs_stored_repair_bytes)", "left"),
    number("Longest estimate", "Until the slowest server has everything.", "s", "max(dgfs_stored_repair_estimate_seconds)", "estimate"),
    number("Lost versions", "Of which no good copy was found anywhere.", "none", "sum(dgfs_stored_repair_lost_total) + sum(dgfs_stored_lost_versions)", "lost", bad=1),
    graph("Partitions by state", "Of every class.", "none", ("sum by (class, state) (dgfs_meta_partitions)", "{{class}} {{state}}"), width=12),
    graph("Left to repair", "Bytes each server has yet to fetch.", "bytes", ("sum by (name) (dgfs_stored_repair_bytes)", "{{name}}"), width=12),
    graph("Repair rate", "Bytes fetched from other servers, a second.", "Bps", (rate("dgfs_stored_repair_fetched_bytes_total", "name"), "{{name}}")),
    graph("Versions fetched", "A second.", "ops", (rate("dgfs_stored_repair_versions_total", "name"), "{{name}}")),
    graph("Members not full", "Places that lack something, by class.", "none", ("max by (class) (dgfs_meta_places_left)", "{{class}}")),
    graph("Scrub", "Bytes read by the scrub, a second.", "Bps", (rate("dgfs_stored_scrubbed_bytes_total", "name"), "{{name}}")),
    graph("Age of the last whole scrub", "Absent until the first one ended.", "s", ("(time() - (dgfs_stored_scrubbed_timestamp_seconds > 0)) or (0 * dgfs_stored_scrubbed_timestamp_seconds)", "{{name}}")),
    graph("Damage", "Found by reads and by the scrub, and healed, so far.", "none", ("sum(dgfs_stored_damaged_reads_total)", "at reads"), ("sum(dgfs_stored_scrub_errors_total)", "by the scrub"), ("sum(dgfs_stored_healed_versions_total)", "healed"), ("sum(dgfs_stored_lost_versions)", "lost")),
    graph("Compressed anew", "Old data rewritten for another compression, versions a second.", "ops", (rate("dgfs_stored_recompressed_versions_total", "name"), "{{name}}")),
    graph("Garbage", "Versions that wait to be dropped.", "none", ("max(dgfs_meta_garbage_versions)", "versions")),
    graph("Waste", "Bytes in segments that compaction takes back.", "bytes", ("sum by (name) (dgfs_stored_waste_bytes)", "{{name}}")),
]

INDEX = [
    number("Index services that answer", "Of those that are known.", "none", 'sum(up{job="dgfs-index"})', "up", bad=(0, 0)),
    number("Lag", "Events not applied yet.", "none", "max(dgfs_index_lag_events)", "events", bad=50000),
    number("Being built", "Is one being built anew?", "none", "max(dgfs_index_building)", "building", words={0: ("no", "green"), 1: ("yes", "orange")}),
    number("Files that wait for taggers", "In the queue.", "none", "sum(dgfs_index_tagger_queue)", "waiting"),
    number("Failed files", "Files on which a tagger failed.", "none", "max(dgfs_index_failed_files)", "failed"),
    number("Tags", "Made by people.", "short", "max(dgfs_index_tags)", "tags"),
    graph("Lag of the index", "Events, and seconds.", "none", ("dgfs_index_lag_events", "{{name}} events"), ("dgfs_index_lag_seconds", "{{name}} seconds")),
    graph("Questions", "Asked, refused, and out of time, a second.", "ops", (rate("dgfs_index_queries_total", "name"), "{{name}}"), (rate("dgfs_index_refused_queries_total", "name"), "{{name}} refused"), (rate("dgfs_index_late_queries_total", "name"), "{{name}} late")),
    graph("Time of questions", "99th percentile.", "s", (p(0.99, "dgfs_index_query_seconds", "name"), "{{name}} answer"), (p(0.99, "dgfs_index_wait_seconds", "name"), "{{name}} wait for changes")),
    graph("Tagger jobs by result", "Jobs a second: done, failed (the file), crashed or timeout (the tagger), refused.", "ops", (rate("dgfs_index_tagger_jobs_total", "tagger, result"), "{{tagger}} {{result}}")),
    graph("Time of tagger jobs", "Seconds a job takes, on average.", "s", (p(0.99, "dgfs_index_tagger_seconds", "tagger"), "{{tagger}}")),
    graph("Consumers of the change log", "Events each is behind.", "none", ("max by (consumer) (dgfs_meta_consumer_lag_events)", "{{consumer}}")),
    graph("Inodes and edges", "In the graph.", "short", ("dgfs_index_inodes", "{{name}} inodes"), ("dgfs_index_tag_edges", "{{name}} edges")),
    graph("Memory and disk", "What the index takes.", "bytes", ("dgfs_index_memory_bytes", "{{name}} memory"), ("dgfs_index_disk_bytes", "{{name}} disk")),
    graph("Neo4j", "1: answers; and changes it is behind. 0 where no Neo4j is used.", "none", (rare("max(dgfs_index_neo4j_up)"), "answers"), (rare("max(dgfs_index_neo4j_lag_events)"), "behind")),
]

LOGS = [
    text("Where logs are", "How to get from a number to the lines.", "**From all servers, by time:** `dgfs logs --since 10m --level warn --config client.toml`  \n**One request through mount, metadata and storage:** `dgfs logs --request ID`  \n**What happened to the cluster:** `dgfs events --since 1h`  \n**On one host:** `journalctl -u 'dgfs-*' --since -10m`  \n\nWith Loki or another log store: send `[log] format = \"json\"` there; each record has `request`, the id of one kernel request."),
    graph("Records of errors", "ERROR records a second, by process.", "ops", (rate("dgfs_log_records_total", "job, name", 'level="error"'), "{{job}} {{name}}"), width=12),
    graph("Records of warnings", "WARN records a second, by process.", "ops", (rate("dgfs_log_records_total", "job, name", 'level="warn"'), "{{job}} {{name}}"), width=12),
    table("Records so far", "Since each process began.", "none", "sum by (job, name, level) (dgfs_log_records_total)", ["job", "name", "level"], width=12),
    graph("Slow operations", "Recorded with the time by stage.", "ops", (rare(rate("dgfs_mount_slow_operations_total", "name, op")), "{{name}} {{op}}"), width=12),
]

TRAFFIC = [
    table("Who sends how much to whom", "Bytes a second from the process in the first column to the peer, as the sender counts them.", "Bps", f'sort_desc(sum by (name, peer, role) (rate(dgfs_peer_sent_bytes_total{{direction="out"}}[{RATE}])))', ["name", "peer", "role"], width=12, height=12),
    table("Who receives how much from whom", "The same, counted at the other end.", "Bps", f'sort_desc(sum by (name, peer, role) (rate(dgfs_peer_received_bytes_total{{direction="in"}}[{RATE}])))', ["name", "peer", "role"], width=12, height=12),
    graph("Requests", "A second, by caller and role of the peer.", "ops", (f'sum by (name, role) (rate(dgfs_peer_requests_total{{direction="out"}}[{RATE}]))', "{{name}} to {{role}}")),
    graph("Round trip", "As QUIC measures it, by caller and peer.", "s", ("max by (name, peer) (dgfs_peer_rtt_seconds)", "{{name}} to {{peer}}")),
    graph("Lost packets", "A second; QUIC sends them again.", "pps", (rate("dgfs_peer_lost_packets_total", "name, peer"), "{{name}} to {{peer}}")),
    graph("Share of packets lost", "Of those sent to the peer, by caller and peer. More than 1 % is an alert.", "percentunit", ('sum by (name, peer) (rate(dgfs_peer_lost_packets_total[1m])) / sum by (name, peer) (rate(dgfs_peer_sent_packets_total[1m]))', "{{name}} to {{peer}}")),
    graph("Failed calls", "Calls that did not reach the peer or timed out, a second.", "ops", (rare(rate("dgfs_peer_failures_total", "name, peer")), "{{name}} to {{peer}}"), width=12),
    states("Peers that are not reached", "0: the last call or connection of this process to that peer failed.", "min by (name, peer, role) (dgfs_peer_up)", "{{name}} to {{role}} {{peer}}", UP_DOWN, width=12),
]

DASHBOARDS = [
    ("overview", "Cluster overview", "Is the cluster healthy, is it available, and what is going on?", [], OVERVIEW),
    ("servers", "Servers", "All storage servers and the processes around them.", [], SERVERS),
    ("server", "One server", "Everything of one storage server (or another process).", ["name"], SERVER),
    ("metadata", "Metadata and Redis", "The metadata services and their engine.", ["op"], METADATA),
    ("mounts", "Mounts", "What programs notice.", ["mount", "op"], MOUNTS),
    ("chunks", "Chunks and hot spots", "What is read and written, and where it is uneven.", [], CHUNKS),
    ("repair", "Repair and scrub", "What is missing, what is being rebuilt, what was damaged.", [], REPAIR),
    ("index", "Index and taggers", "What can be found, and how soon.", [], INDEX),
    ("logs", "Logs", "How much is complained of, and how to get to the lines.", [], LOGS),
    ("traffic", "Who talks to whom", "Traffic between all processes, measured at both ends.", [], TRAFFIC),
]
