//! Reads sysfs with a small shell script, with `find` and `readlink` only.

use super::Facts;
use crate::support::Host;

/// A line for each text: address, name, value, with tabs between. Each process that is started costs an emulated
/// machine tens of milliseconds, so that the shell does it nearly alone.
const SCRIPT: &str = r#"
shopt -s nullglob
cd /sys/bus/pci/devices
declare -A link
while IFS=$'\t' read -r name target; do link[$name]=${target##*/}; done < <(find */ -maxdepth 1 -type l -printf '%p\t%l\n')
say() { printf '%s\t%s\t%s\n' "$d" "$1" "${2:-none}"; }
attr() { value=; { read -r value <"$d/$1"; } 2>/dev/null; value=${value#0x}; }
for d in *; do
    attr vendor; ids=$value; attr device; say ids "$ids:$value"
    attr class; say class "$value"
    attr revision; say revision "$value"
    attr subsystem_vendor; ids=$value; attr subsystem_device
    [ "$ids:$value" = 0000:0000 ] || say subsystem "$ids:$value"
    say driver "${link[$d/driver]}"
    attr driver_override; say override "${value#(null)}"
    say group "${link[$d/iommu_group]}"
    attr numa_node; say numa "${value#-1}"
    attr max_link_speed; speed=${value%% *}; attr max_link_width; most="${speed%.0}GT/s x$value"
    attr current_link_speed; speed=${value%% *}; attr current_link_width; now="${speed%.0}GT/s x$value"
    # Where there is no link the kernel says Unknown, 0 or 255; where there is no PCI Express, nothing.
    case "$most $now " in GT* | *Unknown* | *"x0 "* | *"x255 "*) ;; *) say 'link at most' "$most"; say 'link now' "$now" ;; esac
    bars=; i=0
    while read -r start end flags; do
        if [ $i -lt 7 ] && [ $start != $end ]; then
            bars+=" $i:$((end - start + 1))"
            ((flags & 0x100)) && bars+=i; ((flags & 0x100000)) && bars+=w; ((flags & 0x2000)) && bars+=p
        fi
        i=$((i + 1))
    done <$d/resource
    say bars "${bars# }"
    say 'physical function' "${link[$d/physfn]}"
    vfs=; for i in {0..63}; do [ -n "${link[$d/virtfn$i]}" ] && vfs+=" ${link[$d/virtfn$i]}"; done
    say 'virtual functions' "${vfs# }"
    attr reset_method; say reset "$value"
    nets=($d/net/* $d/virtio*/net/*); nets=${nets[*]##*/}; say interfaces "$nets"
done
# The bridges above a function are the addresses in its path.
for d in *; do echo "$d $(readlink -f $d)"; done | while read -r d path; do
    IFS=/ read -ra parts <<<"${path%/*}"; above=; for part in "${parts[@]}"; do [[ $part =~ ^[0-9a-f]+:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$ ]] && above+=" $part"; done
    say path "${above# }"
done
"#;

pub fn read(host: &Host) -> Facts {
    parse(&host.sh(SCRIPT))
}

pub fn parse(text: &str) -> Facts {
    let mut facts = Facts::new();
    for line in text.lines() {
        let mut parts = line.split('\t');
        let (address, name, value) =
            (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
        // The names live as long as the test.
        let name: &'static str = String::from(name).leak();
        facts.entry(address.to_owned()).or_default().insert(name, value.to_owned());
    }
    facts
}
