#!/bin/sh
# chargehand:
#   intent: rotate_homelab_logs
#   work_type: run_automation
#   service: homelab
#   description: Set aside the homelab's log files that have grown too large, and drop the oldest
#   examples:
#     - rotate the logs
#     - rotate the homelab logs
#     - rotate the log files
#     - clean up the homelab's log files
#     - the logs are too big, rotate them
#     - rotate logs larger than {max_kilobytes} kilobytes
#     - trim the logs of the status page and the portals
#     - run the log rotation
#     - archive the old logs
#   parameters:
#     max_kilobytes: {type: integer, minimum: 1, maximum: 1048576, default: 1024, description: "Only larger logs are rotated, in KiB"}
#     keep: {type: integer, minimum: 1, maximum: 20, default: 3, description: "How many old files of each log stay"}
#   resources: {cpu_cores: 1, memory_mb: 16, gpu_vram_mb: 0, estimated_duration_seconds: 1}
#   risk: change
#   retry_safe: true
#   dry_run: true
#   exclusive_keys: ["service:homelab-logs"]
set -eu
lab=${CHARGEHAND_HOMELAB_DIR:-${HOME:?is not set, and neither is CHARGEHAND_HOMELAB_DIR}/.local/share/chargehand-homelab}
max=${CHARGEHAND_MAX_KILOBYTES:-1024}
keep=${CHARGEHAND_KEEP:-3}

rotate() { # rotate LOG: its program keeps the file open, so the file is copied and emptied, not renamed
    old=$keep
    while [ "$old" -gt 1 ]; do
        [ ! -f "$1.$((old - 1))" ] || mv -f "$1.$((old - 1))" "$1.$old"
        old=$((old - 1))
    done
    cp -p "$1" "$1.1"
    : >"$1"
}

count=0
for log in "$lab"/*/*.log; do
    [ -f "$log" ] && [ ! -L "$log" ] || continue
    size=$(($(wc -c <"$log") / 1024))
    [ "$size" -gt "$max" ] || continue
    count=$((count + 1))
    if [ "${CHARGEHAND_DRY_RUN:-0}" = 1 ]; then
        echo "progress: would rotate ${log##*/} ($size KiB)"
    else
        rotate "$log"
        echo "progress: rotated ${log##*/} ($size KiB)"
    fi
done

changed=false
[ "$count" = 0 ] || changed=true
verb='set aside'
[ "${CHARGEHAND_DRY_RUN:-0}" != 1 ] || verb='would be set aside'
summary="logs larger than $max KiB: $count, $verb"
echo "$summary"
[ -z "${CHARGEHAND_OUTPUT_FILE:-}" ] ||
    printf '{"summary": "%s", "changed": %s}\n' "$summary" "$changed" >"$CHARGEHAND_OUTPUT_FILE"
