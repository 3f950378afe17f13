#!/bin/sh
# chargehand:
#   intent: report_disk_space
#   work_type: run_automation
#   service: homelab
#   description: Report how full each disk of this machine is; changes nothing
#   examples:
#     - report the disk space
#     - how full are the disks
#     - how much disk space is left
#     - run the disk report
#     - make a disk usage report
#     - which disks are nearly full
#     - show the disk usage of this machine
#     - report disks that are more than {warn_percent} percent full
#     - list the free space on every disk
#   parameters:
#     warn_percent: {type: integer, minimum: 1, maximum: 100, default: 90, description: "Disks at least this full are named in the summary, in percent"}
#   resources: {cpu_cores: 1, memory_mb: 16, gpu_vram_mb: 0, estimated_duration_seconds: 1}
#   risk: read
#   retry_safe: true
#   dry_run: true
set -eu
warn=${CHARGEHAND_WARN_PERCENT:-90}

# -P: one line per disk. Pseudo file systems have no device path; images (loop) are full by nature.
disks=$(df -Pk | awk '$1 ~ "^/dev/" && $1 !~ "^/dev/loop" { sub("%", "", $5); place = $6; for (i = 7; i <= NF; i++) place = place " " $i
    printf "%s\t%d\t%.1f\n", place, $5, $4 / 1048576 }')
[ -n "$disks" ] || disks=$(df -Pk / | awk 'NR == 2 { sub("%", "", $5); printf "/\t%d\t%.1f\n", $5, $4 / 1048576 }')

printf '%s\n' "$disks" | awk -F '\t' '{ printf "progress: %s is %d %% full, %.1f GiB free\n", $1, $2, $3 }'

summary=$(printf '%s\n' "$disks" | awk -F '\t' -v warn="$warn" '
    $2 >= warn { full = full (full ? ", " : "") $1 " (" $2 " %)" }
    END { print NR (NR == 1 ? " disk, " : " disks, ") (full ? "at least " warn " % full: " full : "none " warn " % full or more") }')
echo "$summary"
[ -z "${CHARGEHAND_OUTPUT_FILE:-}" ] ||
    printf '{"summary": "%s", "changed": false}\n' "$(printf %s "$summary" | tr -d '"\\')" >"$CHARGEHAND_OUTPUT_FILE"
