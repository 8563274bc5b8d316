package rehearsal

import (
	"bytes"
	"io"
	"os"
)

// tailFile returns the last lines of a file, or nothing when it can't be read.
func tailFile(path string, lines int) string {
	const enough = 64 << 10
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() > enough {
		if _, err := file.Seek(-enough, io.SeekEnd); err != nil {
			return ""
		}
	}
	data, err := io.ReadAll(file)
	if err != nil {
		return ""
	}
	return lastLines(data, lines)
}

func lastLines(data []byte, count int) string {
	all := bytes.Split(bytes.TrimRight(data, "\n"), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-count):], []byte("\n")))
}
