package hosts

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/nullify005/manager-cluster-state/config"
)

// Fact is what a machine says of itself.
type Fact struct {
	// Installation is the token of its k3s, empty where this program has installed none.
	Installation string
	// K3s is the version that is installed, as v1.35.0+k3s1; empty where there is none, unknown
	// where there is one that doesn't say.
	K3s string
	// BootID is another one after each boot.
	BootID string
	// Kernel is its release, and Machine the kind of CPU, as uname has them.
	Kernel, Machine string
	// Memory and DiskFree are in bytes.
	Memory, DiskFree int64

	clock                       time.Time
	root, cgroupMemory, systemd bool
	apiPortTaken, begun         bool
	bootFile, fetcher           string
}

// What a machine must have.
const (
	freeToInstall = 2 << 30
	freeToUpgrade = 512 << 20
	clockSkew     = time.Minute
	// enoughPercent of the memory in the stack file: a Pi's GPU keeps some to itself.
	enoughPercent = 80
)

var (
	tokenPattern  = regexp.MustCompile(`^[0-9a-f]{8,64}$`)
	bootIDPattern = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	wordPattern   = regexp.MustCompile(`^[A-Za-z0-9._+~-]{1,128}$`)
	pathPattern   = regexp.MustCompile(`^/[A-Za-z0-9._/-]{1,128}$`)
)

// parse reads the script's answer, all of it and nothing else.
func parse(said string) (*Fact, error) {
	values := map[string]string{}
	for line := range strings.Lines(said) {
		name, value, found := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if _, twice := values[name]; !found || twice || !known(name) {
			return nil, fmt.Errorf("line %s", quote(line))
		}
		values[name] = value
	}
	r := &reading{values: values}
	fact := &Fact{
		Installation: r.optional("INSTALLATION", tokenPattern),
		K3s:          r.optional("K3S", wordPattern),
		BootID:       r.text("BOOT_ID", bootIDPattern),
		Kernel:       r.text("KERNEL", wordPattern),
		Machine:      r.text("MACHINE", wordPattern),
		Memory:       r.number("MEMORY_KIB") << 10,
		DiskFree:     r.number("DISK_KIB") << 10,
		clock:        time.Unix(r.number("CLOCK"), 0),
		root:         r.yes("ROOT"),
		cgroupMemory: r.yes("CGROUP_MEMORY"),
		systemd:      r.yes("SYSTEMD"),
		apiPortTaken: r.yes("PORT_6443"),
		begun:        r.yes("BEGUN"),
		bootFile:     r.optional("BOOT_FILE", pathPattern),
		fetcher:      r.optional("FETCHER", wordPattern),
	}
	r.yes("END")
	return fact, r.err
}

func known(name string) bool {
	return strings.Contains(checkScript, "\nsay "+name+" ")
}

// reading keeps the first value that is not as it must be.
type reading struct {
	values map[string]string
	err    error
}

func (r *reading) fail(name string) {
	if r.err != nil {
		return
	}
	if value, there := r.values[name]; there {
		r.err = fmt.Errorf("%s is %s", name, quote(value))
		return
	}
	r.err = fmt.Errorf("it ends without %s", name)
}

func (r *reading) text(name string, pattern *regexp.Regexp) string {
	if !pattern.MatchString(r.values[name]) {
		r.fail(name)
	}
	return r.values[name]
}

func (r *reading) optional(name string, pattern *regexp.Regexp) string {
	if value, there := r.values[name]; there && value == "" {
		return ""
	}
	return r.text(name, pattern)
}

func (r *reading) yes(name string) bool {
	value := r.values[name]
	if value != "yes" && value != "no" {
		r.fail(name)
	}
	return value == "yes"
}

func (r *reading) number(name string) int64 {
	const most = 1 << 48 // so that it fits as bytes too
	number, err := strconv.ParseInt(r.values[name], 10, 64)
	if err != nil || number < 0 || number > most {
		r.fail(name)
		return 0
	}
	return number
}

// judge holds a machine against what k3s needs and what the stack file says of it.
func (c *checker) judge(h *Host, f *Fact, before, after time.Time) Problems {
	j := &judgement{Host: h, Fact: f}
	j.system()
	j.clockBetween(before, after)
	j.room()
	j.cgroups()
	j.fetches(c.cfg.Cluster.Install.From)
	j.port()
	return j.problems
}

type judgement struct {
	*Host
	*Fact

	problems Problems
}

func (j *judgement) add(mend, what string, values ...any) {
	j.problems = append(j.problems, j.problemf(mend, what, values...))
}

func (j *judgement) system() {
	if j.Machine != "aarch64" && j.Machine != "arm64" {
		j.add("install the 64-bit Raspberry Pi OS on it", "its kernel is for %s, and k3s here is for arm64", j.Machine)
	}
	if !j.systemd {
		j.add("install Raspberry Pi OS, or Debian, on it", "it has no systemd, which runs k3s")
	}
}

// clockBetween: certificates of a clock that is off are not valid yet, or no longer.
func (j *judgement) clockBetween(before, after time.Time) {
	if off := max(before.Sub(j.clock), j.clock.Sub(after)); off > clockSkew {
		j.add("set it there: sudo timedatectl set-ntp true; or look at the clock here",
			"its clock says %s, which is %s away from ours", j.clock.UTC().Format(time.RFC3339), off.Round(time.Second))
	}
}

func (j *judgement) room() {
	if j.Memory < enough(j.Node) {
		has := mebibytes(j.Memory)
		j.add("look at its memory, or set "+j.Path+".memory to what it has: "+j.via.set(j.Path+".memory", has),
			"it has %s of memory, which is too little for the %s of the stack file", has, j.Node.Memory)
	}
	free := int64(freeToInstall)
	if j.K3s != "" {
		free = freeToUpgrade
	}
	if j.DiskFree < free {
		j.add("make room there: sudo apt clean, sudo journalctl --vacuum-size=16M, or a larger SD card",
			"it has %s free at /, and k3s needs %s", mebibytes(j.DiskFree), mebibytes(free))
	}
}

// cgroups: without root nobody may write to the boot file, and that is told already.
func (j *judgement) cgroups() {
	if !j.cgroupMemory && j.bootFile == "" && j.root {
		j.add("add cgroup_memory=1 cgroup_enable=memory to its kernel's command line, and reboot it",
			"its kernel counts no memory (cgroups), and there is no /boot/firmware/cmdline.txt or /boot/cmdline.txt that can be changed")
	}
}

func (j *judgement) fetches(from string) {
	if j.fetcher == "" && (from == "" || strings.Contains(from, "://")) {
		j.add("install one there: sudo apt install curl, or name a folder of your own machine in cluster.install.from",
			"it has neither curl nor wget to fetch k3s with")
	}
}

// port: an installation that broke off has no token yet, and may listen already.
func (j *judgement) port() {
	ours := j.K3s != "" && (j.Installation != "" || j.begun)
	if j.Node.Role == config.Server && j.apiPortTaken && !ours {
		j.add("see what it is: sudo ss -ltnp 'sport = :6443'; another k3s goes with: sudo /usr/local/bin/k3s-uninstall.sh",
			"something that this program has not installed listens on port 6443")
	}
}

// enough memory for the stack file to be right about the machine.
func enough(node config.Node) int64 {
	allocatable := node.Allocatable()
	memory, err := resource.ParseQuantity(node.Memory)
	if err != nil {
		return 0 // Validate refuses it
	}
	return max(memory.Value()*enoughPercent/100, allocatable.Value())
}

func mebibytes(bytes int64) string { return fmt.Sprintf("%dMi", bytes>>20) }
