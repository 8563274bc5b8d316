package rehearsal

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLock_KeepsASecondRunOut(t *testing.T) {
	f := folder(filepath.Join(t.TempDir(), "s"))
	unlock, err := f.lock(t.Context())
	require.NoError(t, err)

	_, err = f.lock(t.Context())
	var busy *BusyError
	require.ErrorAs(t, err, &busy)
	assert.Equal(t, os.Getpid(), busy.PID)
	assert.Equal(t, string(f), busy.Folder)

	unlock()
	unlock, err = f.lock(t.Context())
	require.NoError(t, err, "free again once the first is done")
	unlock()
}

func TestLock_ThatCantBeHadIsNotAlwaysAnothers(t *testing.T) {
	f := folder(filepath.Join(t.TempDir(), "s"))
	var busy *BusyError
	require.ErrorAs(t, f.unlockable(syscall.EWOULDBLOCK), &busy)
	err := f.unlockable(syscall.ENOLCK)
	assert.NotErrorAs(t, err, &busy)
	assert.ErrorContains(t, err, "locking "+f.lockFile()+": no locks available")
}

func TestLock_OfARemovedFolderExcludesNobody(t *testing.T) {
	f := folder(filepath.Join(t.TempDir(), "s"))
	unlock, err := f.lock(t.Context())
	require.NoError(t, err)
	require.NoError(t, f.create())
	require.NoError(t, f.remove())
	assert.NoDirExists(t, string(f))

	again, err := f.lock(t.Context())
	require.NoError(t, err, "a new folder has a new lock, though the old one is still held")
	again()
	unlock()
}

func TestCreate_KeepsSecretsToTheirOwner(t *testing.T) {
	f := folder(filepath.Join(t.TempDir(), "s"))
	require.NoError(t, f.create())
	first, err := os.ReadFile(f.passphrase())
	require.NoError(t, err)
	assert.Greater(t, len(first), 20)

	info, err := os.Stat(f.passphrase())
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	info, err = os.Stat(string(f))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o700), info.Mode().Perm())

	require.NoError(t, f.create())
	second, err := os.ReadFile(f.passphrase())
	require.NoError(t, err)
	assert.Equal(t, first, second, "what was encrypted with it must stay readable")
}

// entries are the names in a folder.
func entries(t *testing.T, path string) (names []string) {
	t.Helper()
	all, err := os.ReadDir(path)
	require.NoError(t, err)
	for _, entry := range all {
		names = append(names, entry.Name())
	}
	return names
}

// A home given as --dir is neither removed nor written into, and nothing that runs from it is ended.
func TestFolder_OfSomebodyElseIsRefused(t *testing.T) {
	somebodys := t.TempDir()
	options := Options{Project: "..", Stack: "development", Folder: somebodys}
	early, err := New(options)
	require.NoError(t, err, "an empty one will do")
	require.NoError(t, os.WriteFile(filepath.Join(somebodys, "letter"), nil, 0o600))

	_, err = New(options)
	require.ErrorContains(t, err, somebodys)
	require.ErrorContains(t, err, "--dir")
	_, err = early.Down(t.Context())
	require.ErrorContains(t, err, "no rehearsal's")
	require.ErrorContains(t, early.Up(t.Context(), UpOptions{}), "no rehearsal's")
	assert.Equal(t, []string{"letter"}, entries(t, somebodys))
}

func TestFolder_OfARehearsalIsTaken(t *testing.T) {
	f := folder(filepath.Join(t.TempDir(), "s"))
	unlock, err := f.lock(t.Context())
	require.NoError(t, err)
	defer unlock()
	require.NoError(t, f.create())
	require.NoError(t, f.ours())
	require.NoError(t, os.RemoveAll(f.bin("")))
	require.NoError(t, f.ours(), "half removed")

	for about, names := range map[string][]string{
		"of a version that made no mark":         {"bin", "logs", "lock", "pulumi-home", "state"},
		"one that cmd/chaos has emptied":         {"bin", "lock", "pulumi-home"},
		"whose run was killed as it had begun":   {"lock"},
		"that is empty, and so can be made into": nil,
	} {
		f := folder(t.TempDir())
		for _, name := range names {
			require.NoError(t, os.WriteFile(f.join(name), nil, 0o600))
		}
		require.NoError(t, f.ours(), about)
		unlock, err := f.lock(t.Context())
		require.NoError(t, err, about)
		unlock()
		assert.Contains(t, entries(t, string(f)), filepath.Base(f.mark()), about)
	}
}

func TestResolve_FollowsLinksAsFarAsThePathExists(t *testing.T) {
	target, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(target, link))

	got, err := resolve(filepath.Join(link, "not", "yet"))
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(target, "not", "yet"), got)
}

func TestDefaultFolder_IsOneThatKwokctlCanWorkIn(t *testing.T) {
	assert.Equal(t, "/clone/.rehearsal/development", defaultFolder("/clone", "development"))
	elsewhere := defaultFolder("/my clone", "development")
	assert.False(t, hasSpace(elsewhere))
	assert.NotEqual(t, elsewhere, defaultFolder("/my other clone", "development"))

	_, err := New(Options{Project: "..", Stack: "development", Folder: "/tmp/a b"})
	assert.ErrorContains(t, err, "name another with --dir")
}
