//go:build linux

package pitest_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/nullify005/manager-cluster-state/internal/pitest"
)

// reaches says whether something answers at the Pi's SSH port.
func reaches(pi *pitest.Pi) bool {
	connection, err := (&net.Dialer{Timeout: time.Second}).DialContext(context.Background(), "tcp", net.JoinHostPort(pi.Address, "22"))
	return err == nil && connection.Close() == nil
}

func TestPi_IsNotReachedWithoutItsCable(t *testing.T) {
	pi := pitest.New(t, pitest.Options{}).Pi(t, "kiwipi", pitest.PiOptions{})
	require.True(t, reaches(pi))
	pi.Unplug()
	assert.False(t, reaches(pi))
	pi.Plug()
	assert.Eventually(t, func() bool { return reaches(pi) }, asked, often)
	assert.Equal(t, 1, pi.Boots())
}

func TestPi_AnswersNothingWhileItReboots(t *testing.T) {
	house := pitest.New(t, pitest.Options{})
	pi := house.Pi(t, "kiwipi", pitest.PiOptions{})
	house.RebootTakes(3 * time.Second)
	before := pi.BootID()
	pi.Must(t, "reboot")
	silent := false
	assert.Eventually(t, func() bool {
		silent = silent || !reaches(pi)
		return silent && reaches(pi)
	}, asked, 50*time.Millisecond)
	assert.Equal(t, 2, pi.Boots())
	assert.NotEqual(t, before, pi.BootID())
}

func TestPi_StaysOffWithoutPower(t *testing.T) {
	pi := pitest.New(t, pitest.Options{}).Pi(t, "kiwipi", pitest.PiOptions{})
	pi.Must(t, "echo kept >/root/kept; echo lost >/run/lost")
	pi.Off(t)
	assert.False(t, reaches(pi))
	pi.On(t)
	assert.Equal(t, "kept\n/root/kept\n", pi.Must(t, "cat /root/kept; ls /root/kept /run/lost 2>/dev/null || :"))
}

func TestPi_HasItsBootFlagsFromTheNextBootOn(t *testing.T) {
	for name, options := range map[string]pitest.PiOptions{"/boot/firmware/cmdline.txt": {}, "/boot/cmdline.txt": {OldBoot: true}} {
		t.Run(name, func(t *testing.T) {
			pi := pitest.New(t, pitest.Options{}).Pi(t, "kiwipi", options)
			const memory = "awk '$1 == \"memory\" { print $4 }' /proc/cgroups; grep -cw memory /sys/fs/cgroup/cgroup.controllers || :"
			pi.Must(t, "sed -i 's/$/ "+pitest.CgroupFlags+"/' "+name)
			assert.NotContains(t, pi.Must(t, "cat /proc/cmdline"), "cgroup_enable=memory")
			assert.Equal(t, "0\n0\n", pi.Must(t, memory))
			pi.Must(t, "reboot")
			pi.WaitUp(t, 2)
			assert.Contains(t, pi.Must(t, "cat /proc/cmdline"), " "+pitest.CgroupFlags+"\n")
			assert.Equal(t, "1\n1\n", pi.Must(t, memory))
			assert.Equal(t, []string{"~" + name}, pi.Left(t))
		})
	}
}

func TestPi_IsWhatItsOptionsSay(t *testing.T) {
	house := pitest.New(t, pitest.Options{})
	pi := house.Pi(t, "old", pitest.PiOptions{
		Memory: 498000, Disk: 64, Machine: "armv7l", NoSudo: true, Clock: -48 * time.Hour, Cgroups: true, Files: map[string]string{"/opt/mine": "yes"},
	})
	out, _, err := pi.Run(t.Context(), "awk '/MemTotal/ { print $2 }' /proc/meminfo; uname -m; uname -r; nproc --all >/dev/null; cat /opt/mine; date -u +%s", "")
	require.NoError(t, err)
	lines := strings.Split(out, "\n")
	assert.Equal(t, []string{"498000", "armv7l"}, lines[:2])
	wrong, err := time.ParseDuration(strings.TrimPrefix(lines[3], "yes") + "s")
	require.NoError(t, err)
	assert.InDelta(t, time.Now().Add(-48*time.Hour).Unix(), wrong.Seconds(), 60)
	_, said, err := pi.Run(t.Context(), "sudo -n true", "")
	require.Error(t, err)
	assert.Contains(t, said, "password is required")
	out, _, err = pi.Run(t.Context(), "df -Pk / | awk 'NR == 2 { print $2 }'; grep -o cgroup_enable=memory /proc/cmdline", "")
	require.NoError(t, err)
	assert.Equal(t, "65536\ncgroup_enable=memory\n", out)
}

func TestPi_SwapIsSwitchedOffAndOn(t *testing.T) {
	house := pitest.New(t, pitest.Options{RebootTakes: time.Millisecond})
	const count = "awk 'NR > 1 { print $1 }' /proc/swaps"
	t.Run("dphys-swapfile", func(t *testing.T) {
		pi := house.Pi(t, "kiwipi", pitest.PiOptions{})
		assert.Equal(t, "/var/swap\n", pi.Must(t, count))
		pi.Must(t, "systemctl disable --now dphys-swapfile")
		assert.Empty(t, pi.Must(t, count))
		pi.Must(t, "reboot")
		pi.WaitUp(t, 2)
		assert.Empty(t, pi.Must(t, count))
		pi.Must(t, "systemctl enable --now dphys-swapfile")
		assert.Equal(t, "/var/swap\n", pi.Must(t, count))
		assert.Empty(t, pi.Left(t))
	})
	t.Run("zram", func(t *testing.T) {
		pi := house.Pi(t, "orangepi", pitest.PiOptions{Swap: "zram"})
		assert.Equal(t, "/dev/zram0\n", pi.Must(t, count))
		pi.Must(t, "systemctl mask --now \"$(systemd-escape --path --suffix=swap /dev/zram0)\"")
		assert.Empty(t, pi.Must(t, count))
		pi.Must(t, "reboot")
		pi.WaitUp(t, 2)
		assert.Empty(t, pi.Must(t, count))
		pi.Must(t, "systemctl unmask dev-zram0.swap; systemctl start dev-zram0.swap")
		assert.Equal(t, "/dev/zram0\n", pi.Must(t, count))
		assert.Empty(t, pi.Left(t))
	})
}

func TestPi_DiskIsFullAndIsNotAnyMore(t *testing.T) {
	pi := pitest.New(t, pitest.Options{}).Pi(t, "kiwipi", pitest.PiOptions{Disk: 256})
	pi.FillDisk(t, 1<<20)
	_, said, err := pi.Run(t.Context(), "sudo -n sh -s", "dd if=/dev/zero of=/root/big bs=1M count=8")
	require.Error(t, err)
	assert.Contains(t, said, "No space left on device")
	pi.EmptyDisk(t)
	pi.Must(t, "dd if=/dev/zero of=/root/big bs=1M count=8 2>/dev/null; rm /root/big")
	assert.Empty(t, pi.Left(t))
}

func TestPi_ConnectionDropsInTheMiddleOfACommand(t *testing.T) {
	pi := pitest.New(t, pitest.Options{}).Pi(t, "kiwipi", pitest.PiOptions{})
	dropped := pi.DropAfter(t, "/root/marker*")
	_, _, err := pi.Run(t.Context(), "sudo -n sh -s", "echo >/root/marker1; until test -e /root/go; do sleep 0.1; done; echo >/root/done")
	<-dropped
	var missing *ssh.ExitMissingError
	require.ErrorAs(t, err, &missing)
	assert.True(t, reaches(pi))
	// The command itself goes on.
	pi.Must(t, "touch /root/go")
	assert.Eventually(t, func() bool {
		_, err := os.Stat(pi.Path("/root/done"))
		return err == nil
	}, asked, often)
}

func TestPi_HasAnotherHostKey(t *testing.T) {
	pi := pitest.New(t, pitest.Options{}).Pi(t, "kiwipi", pitest.PiOptions{})
	before := pi.HostKey()
	pi.NewHostKey(t)
	assert.NotEqual(t, before, pi.HostKey())
	assert.Equal(t, "root\n", pi.Must(t, "id -un"))
}

func TestPi_IsAnotherOneAfterReflashing(t *testing.T) {
	pi := pitest.New(t, pitest.Options{}).Pi(t, "kiwipi", pitest.PiOptions{})
	before := pi.HostKey()
	pi.Must(t, "mkdir -p /etc/rancher; echo >/etc/rancher/mine; rm -r /usr/share/doc/sudo || rm /etc/debian_version")
	assert.Contains(t, pi.Left(t), "+/etc/rancher/mine")
	pi.Reflash(t)
	assert.NotEqual(t, before, pi.HostKey())
	assert.Equal(t, "root\n", pi.Must(t, "id -un"))
	assert.Empty(t, pi.Left(t))
}

func TestPi_TellsWhatIsLeft(t *testing.T) {
	pi := pitest.New(t, pitest.Options{}).Pi(t, "kiwipi", pitest.PiOptions{})
	pi.Must(t, `set -e
mkdir -p /etc/new/folder
echo more >>/etc/passwd
rm /etc/hostname
rm /etc/debian_version
cp -p /etc/issue /etc/issue.kept && echo x >/etc/issue && cat /etc/issue.kept >/etc/issue && rm /etc/issue.kept
chmod 700 /home/pi`)
	assert.Equal(t, []string{"-/etc/debian_version", "-/etc/hostname", "+/etc/new", "+/etc/new/folder", "~/etc/passwd", "~/home/pi"}, pi.Left(t))
}

func TestPi_IsAJumpHost(t *testing.T) {
	house := pitest.New(t, pitest.Options{})
	jump, pi := house.Pi(t, "kiwipi", pitest.PiOptions{}), house.Pi(t, "orangepi", pitest.PiOptions{})
	client, err := jump.Dial(t.Context())
	require.NoError(t, err)
	defer client.Close()
	connection, err := client.DialContext(t.Context(), "tcp", pi.Host+":22")
	require.NoError(t, err)
	banner := make([]byte, len("SSH-2.0-OpenSSH"))
	_, err = io.ReadFull(connection, banner)
	require.NoError(t, err)
	assert.Equal(t, "SSH-2.0-OpenSSH", string(banner))
}

func TestPi_SpeaksSFTP(t *testing.T) {
	pi := pitest.New(t, pitest.Options{}).Pi(t, "kiwipi", pitest.PiOptions{})
	client, err := pi.Dial(t.Context())
	require.NoError(t, err)
	defer client.Close()
	session, err := client.NewSession()
	require.NoError(t, err)
	in, err := session.StdinPipe()
	require.NoError(t, err)
	out, err := session.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, session.RequestSubsystem("sftp"))
	// Its length, SSH_FXP_INIT, and version 3; the answer is SSH_FXP_VERSION, which is 2.
	_, err = in.Write([]byte{0, 0, 0, 5, 1, 0, 0, 0, 3})
	require.NoError(t, err)
	answer := make([]byte, 9)
	_, err = io.ReadFull(out, answer)
	require.NoError(t, err)
	assert.Equal(t, []byte{2, 0, 0, 0, 3}, answer[4:])
}

func TestHouse_DownloadsBreakOffAndGoOn(t *testing.T) {
	house := pitest.New(t, pitest.Options{})
	pi := house.Pi(t, "kiwipi", pitest.PiOptions{})
	house.Publish("big", []byte(strings.Repeat("0123456789", 10000)))
	house.CutDownloads(50000)
	_, said, err := pi.Run(t.Context(), "curl -fsS -o big "+house.URL+"/big", "")
	require.Error(t, err)
	assert.Contains(t, said, "curl: (18)")
	pi.Must(t, "cd /home/pi && curl -fsS -C - -o big "+house.URL+"/big && test \"$(wc -c <big)\" = 100000")
	assert.Equal(t, []string{"/big", "/big"}, house.Downloads())
	_, said, err = pi.Run(t.Context(), "curl -fsS "+house.URL+"/other", "")
	require.Error(t, err)
	assert.Contains(t, said, "404")
}

func TestPi_UnitsAreKeptRunning(t *testing.T) {
	pi := pitest.New(t, pitest.Options{RebootTakes: time.Millisecond}).Pi(t, "kiwipi", pitest.PiOptions{Files: map[string]string{
		"/usr/local/bin/loop": "#!/bin/sh\necho started \"$WORD\" \"$1\"\nexec sleep 1000\n",
		"/etc/loop.env":       "WORD=from-the-file\n",
		"/etc/systemd/system/loop.service": "[Service]\nEnvironmentFile=-/etc/none\nEnvironmentFile=/etc/loop.env\nExecStart=/bin/sh /usr/local/bin/loop \\\n    'two words'\n" +
			"Restart=always\nRestartSec=1ms\n[Install]\nWantedBy=multi-user.target\n",
		"/etc/systemd/system/broken.service": "[Service]\nType=notify\nExecStart=/bin/false\n",
	}})
	pi.Must(t, "systemctl enable --now loop.service")
	assert.Equal(t, "active\nenabled\n", pi.Must(t, "systemctl is-active loop; systemctl is-enabled loop"))
	require.Eventually(t, func() bool { return pi.Journal("loop") == "started from-the-file two words\n" }, asked, often, pi.Journal("loop"))
	pi.Must(t, "kill $(pgrep -f 'sleep 1000')")
	require.Eventually(t, func() bool { return strings.Count(pi.Journal("loop"), "started") == 2 }, asked, often)
	pi.Must(t, "reboot")
	pi.WaitUp(t, 2)
	require.Eventually(t, func() bool { return strings.Count(pi.Journal("loop"), "started") == 3 }, asked, often)
	_, said, err := pi.Run(t.Context(), "sudo -n systemctl start broken", "")
	require.Error(t, err)
	assert.Contains(t, said, "Job for broken.service failed")
	_, said, err = pi.Run(t.Context(), "systemctl stop loop", "")
	require.Error(t, err)
	assert.Contains(t, said, "authentication required")
	pi.Must(t, "systemctl disable --now loop; ! systemctl is-active --quiet loop; ! pgrep -f 'sleep 1000'")
}

func TestHouse_IsGoneAfterTheTest(t *testing.T) {
	var folder string
	t.Run("one", func(t *testing.T) {
		pi := pitest.New(t, pitest.Options{}).Pi(t, "kiwipi", pitest.PiOptions{})
		go func() { _, _, _ = pi.Run(context.Background(), "sleep 1000", "") }()
		folder = pi.Path("/")
	})
	_, err := os.Stat(folder)
	require.ErrorIs(t, err, os.ErrNotExist)
}

// built is set for the test that is killed by the next one.
const built = "PITEST_BUILT"

func TestHouse_ToBeKilled(t *testing.T) {
	to := os.Getenv(built)
	if to == "" {
		t.Skip("is run by TestHouse_IsGoneWithAKilledTest")
	}
	pi := pitest.New(t, pitest.Options{}).Pi(t, "kiwipi", pitest.PiOptions{})
	require.NoError(t, os.WriteFile(to, []byte(pi.Address+"\n"+filepath.Dir(pi.Path("/"))), 0o600))
	<-t.Context().Done()
}

func TestHouse_IsGoneWithAKilledTest(t *testing.T) {
	pitest.Skip(t)
	to := filepath.Join(t.TempDir(), "built")
	// What the one that is killed leaves of its own goes with this one. A socket's path is short.
	left, err := os.MkdirTemp("", "left") //nolint:usetesting // short
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(left)) })
	t.Setenv("TMPDIR", left)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHouse_ToBeKilled$", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), built+"="+to)
	require.NoError(t, cmd.Start())
	var lines []string
	require.Eventually(t, func() bool {
		content, _ := os.ReadFile(to)
		lines = strings.Split(string(content), "\n")
		return len(lines) == 2
	}, asked, often)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	require.Eventually(t, func() bool {
		_, err := os.Stat(lines[1])
		return errors.Is(err, os.ErrNotExist)
	}, asked, often, "its processes run on")
	require.Eventually(t, func() bool {
		addresses, err := net.InterfaceAddrs()
		require.NoError(t, err)
		return !slices.ContainsFunc(addresses, func(address net.Addr) bool {
			return strings.HasPrefix(address.String(), lines[0][:strings.LastIndexByte(lines[0], '.')+1])
		})
	}, asked, often, "its link is still there")
	// Its folder is the next house's to remove.
	pitest.New(t, pitest.Options{})
	folders, err := filepath.Glob(filepath.Join(left, "pitest-"+strconv.Itoa(cmd.Process.Pid)+"-*"))
	require.NoError(t, err)
	assert.Empty(t, folders)
}
