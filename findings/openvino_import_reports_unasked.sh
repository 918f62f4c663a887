#!/usr/bin/env bash
# `import openvino` gives this computer a number in the home folder and reports to Google Analytics, unasked.
#
# openvino 2026.4.1 with openvino-telemetry 2025.2.0, which its wheel requires. Importing it is enough: nothing has to be
# converted or run. ~/intel gets a random client number and a count of uses, and an event "general_import" is sent to
# www.google-analytics.com by a process of its own. Nobody is asked, nothing is printed, and where a hospital's firewall
# refuses the connection the import succeeds as if nothing had been. Where openvino_telemetry is not installed, or cannot
# be imported, openvino does without it, with the same results.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet openvino==2026.4.1 openvino-telemetry==2025.2.0 2>/dev/null
cd "$folder"
cat >look.py <<'END'
import sys

sent = []
if sys.argv[1] == "with":
    from openvino_telemetry.backend.backend_ga4 import GA4Backend

    def send(self, message):  # instead of the connection
        sent.extend(f"{event['name']} {event['params']['event_label']} to {self.backend_url.split('?')[0]}" for event in message["events"])

    GA4Backend.send = send
else:
    sys.modules["openvino_telemetry"] = None
import openvino

if sent or sys.argv[1] == "with":
    from openvino_telemetry import Telemetry

    Telemetry().sender.executor.shutdown(wait=True)
openvino.Core()
print("; ".join(sent) or "nothing sent")
END
for how in with without; do
    mkdir "home_$how"
    said=$(env -u CI -u TF_BUILD -u JENKINS_URL HOME="$folder/home_$how" "$folder/venv/bin/python" -W ignore look.py "$how")
    files=$(cd "home_$how" && find . -type f | sort | tr '\n' ' ')
    echo "$how openvino_telemetry: $said; files in the home folder: ${files:-none}"
    case "$how" in
        with) [[ "$said" == *"to https://www.google-analytics.com/mp/collect" && -s home_with/intel/openvino_ga_cid ]] ;;
        without) [[ "$said" == "nothing sent" && -z "$files" ]] ;;
    esac || { echo "this has changed" >&2; exit 1; }
done
