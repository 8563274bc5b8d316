package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Programs read the clock by a function that the kernel maps into each of them, the vDSO's; so does
// Go's runtime, which no preloaded library reaches. It is the process's own copy as soon as somebody
// writes to it, as a debugger does to set a breakpoint. What is written here asks the kernel and adds
// to the answer: for this process alone, from this moment on, and only to the clock on the wall, as
// when somebody sets a machine's clock.
const (
	clockFunction = "__vdso_clock_gettime"
	// jumpAt is where in the code what is added stands.
	jumpAt = 18
)

// clockCode is put into the part of the vDSO's last page that nothing uses.
func clockCode(by time.Duration) []byte {
	code := []byte{
		0xb8, 0xe4, 0x00, 0x00, 0x00, // mov eax, 228: clock_gettime
		0x0f, 0x05, // syscall
		0x85, 0xff, // test edi, edi: CLOCK_REALTIME
		0x74, 0x05, // jz add
		0x83, 0xff, 0x05, // cmp edi, 5: CLOCK_REALTIME_COARSE
		0x75, 0x0d, // jne done
		0x48, 0xb9, 0, 0, 0, 0, 0, 0, 0, 0, // add: mov rcx, seconds
		0x48, 0x01, 0x0e, // add [rsi], rcx
		0xc3, // done: ret
	}
	binary.LittleEndian.PutUint64(code[jumpAt:], uint64(int64(by/time.Second))) //nolint:gosec // its two's complement
	return code
}

// jumpClock has the clock of one running process jump; again, it is moved to that distance from the
// machine's.
func jumpClock(pid int, by time.Duration) error {
	err := jump(pid, by)
	if err != nil {
		return fmt.Errorf("moving the clock of process %d: %w", pid, err)
	}
	return nil
}

func jump(pid int, by time.Duration) error {
	start, size, err := findVDSO(pid)
	if err != nil {
		return err
	}
	memory, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer memory.Close()
	image := make([]byte, size)
	if _, err := memory.ReadAt(image, start); err != nil {
		return fmt.Errorf("reading its vDSO: %w", err)
	}
	entry, err := clockEntry(image)
	if err != nil {
		return err
	}
	code := clockCode(by)
	place := len(image) - len(code) - len(code)%16
	switch used := image[place : place+len(code)]; {
	case bytes.HasPrefix(used, code[:jumpAt]): // it has jumped before
		_, err = memory.WriteAt(code[jumpAt:jumpAt+8], start+int64(place)+jumpAt)
		return err
	case len(bytes.Trim(used, "\x00")) > 0:
		return errors.New("this kernel's vDSO has no room at its end")
	}
	if _, err := memory.WriteAt(code, start+int64(place)); err != nil {
		return fmt.Errorf("writing to its vDSO: %w", err)
	}
	// Last, so that nobody gets there too early; whoever is in the old function finishes it.
	const length = 5
	leap := binary.LittleEndian.AppendUint32([]byte{0xe9}, uint32(place-entry-length)) //nolint:gosec // within two pages
	if _, err := memory.WriteAt(leap, start+int64(entry)); err != nil {
		return fmt.Errorf("writing to its vDSO: %w", err)
	}
	return nil
}

func findVDSO(pid int) (start int64, size int, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(maps)) {
		if !strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			continue
		}
		addresses, _, _ := strings.Cut(line, " ")
		from, to, _ := strings.Cut(addresses, "-")
		first, err := strconv.ParseInt(from, 16, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("reading where its vDSO is: %w", err)
		}
		end, err := strconv.ParseInt(to, 16, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("reading where its vDSO is: %w", err)
		}
		return first, int(end - first), nil
	}
	return 0, 0, errors.New("it has no vDSO")
}

// clockEntry is where the function begins in the image.
func clockEntry(image []byte) (int, error) {
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return 0, fmt.Errorf("reading its vDSO: %w", err)
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return 0, fmt.Errorf("reading its vDSO: %w", err)
	}
	for _, symbol := range symbols {
		if symbol.Name == clockFunction && symbol.Value < uint64(len(image)) {
			return int(symbol.Value), nil //nolint:gosec // within the image
		}
	}
	return 0, errors.New("its vDSO has no " + clockFunction)
}
