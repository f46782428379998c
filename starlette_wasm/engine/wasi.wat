;; The bodies that replace a guest's WASI imports, in the guest's own module (link.py puts them in).
;;
;; $guest is the guest's memory, $io the memory appended for the host; the guest cannot name it.
;; @name is the address of a field in $io (layout.py). @host calls the host's function of the same name with this
;; function's own arguments, through the table appended for it; @granted does so where the policy grants a
;; directory (the field files is not 0) and gives BADF otherwise, or always in a guest that can open none. fds 0, 1 and
;; 2 are served here.
;; The functions after the last WASI one are helpers, appended behind the guest's own functions.
;; errno: 2 ACCES, 8 BADF, 19 DQUOT, 22 FBIG, 28 INVAL, 33 MFILE, 51 NOSPC, 57 NOTSOCK, 58 NOTSUP, 63 PERM, 69 ROFS, 70 SPIPE, 76 NOTCAPABLE.

(func $args_sizes_get (param $count i32) (param $size i32) (result i32)
  (i32.store $guest (local.get $count) (i32.load $io (i32.load $io (i32.const @args))))
  (i32.store $guest (local.get $size) (i32.load $io offset=4 (i32.load $io (i32.const @args))))
  (i32.const 0))

(func $args_get (param $pointers i32) (param $data i32) (result i32)
  (call $strings (i32.load $io (i32.const @args)) (local.get $pointers) (local.get $data))
  (i32.const 0))

(func $environ_sizes_get (param $count i32) (param $size i32) (result i32)
  (i32.store $guest (local.get $count) (i32.load $io (i32.load $io (i32.const @environ))))
  (i32.store $guest (local.get $size) (i32.load $io offset=4 (i32.load $io (i32.const @environ))))
  (i32.const 0))

(func $environ_get (param $pointers i32) (param $data i32) (result i32)
  (call $strings (i32.load $io (i32.const @environ)) (local.get $pointers) (local.get $data))
  (i32.const 0))

(func $clock_res_get (param $clock i32) (param $out i32) (result i32)
  (if (i32.gt_u (local.get $clock) (i32.const 3)) (then (return (i32.const 28))))
  (i64.store $guest (local.get $out) (i64.load $io (i32.const @resolution)))
  (i32.const 0))

;; The host writes both clocks before each poll. Clocks 2 and 3 (CPU time) count from the start of the invocation.
(func $clock_time_get (param $clock i32) (param $precision i64) (param $out i32) (result i32)
  (if (i32.gt_u (local.get $clock) (i32.const 3)) (then (return (i32.const 28))))
  (i64.store $guest (local.get $out)
    (if (result i64) (i32.eqz (local.get $clock))
      (then (i64.load $io (i32.const @realtime)))
      (else (i64.sub
        (i64.load $io (i32.const @monotonic))
        (select (i64.const 0) (i64.load $io (i32.const @started)) (i32.eq (local.get $clock) (i32.const 1)))))))
  (i32.const 0))

(func $fd_read (param $fd i32) (param $iovs i32) (param $count i32) (param $out i32) (result i32)
  (local $total i32) (local $len i32) (local $pos i32) (local $left i32)
  (if (i32.gt_u (local.get $fd) (i32.const 2)) (then (return @granted)))
  (if (local.get $fd) (then (return (i32.const 8))))
  (block $done (loop $next
    (br_if $done (i32.eqz (local.get $count)))
    (local.set $pos (i32.load $io (i32.const @in_pos)))
    (local.set $left (i32.sub (i32.load $io (i32.const @in_len)) (local.get $pos)))
    (br_if $done (i32.eqz (local.get $left)))
    (local.set $len (i32.load $guest offset=4 (local.get $iovs)))
    (if (i32.lt_u (local.get $left) (local.get $len)) (then (local.set $len (local.get $left))))
    (memory.copy $guest $io
      (i32.load $guest (local.get $iovs))
      (i32.add (i32.load $io (i32.const @in_ptr)) (local.get $pos))
      (local.get $len))
    (i32.store $io (i32.const @in_pos) (i32.add (local.get $pos) (local.get $len)))
    (local.set $total (i32.add (local.get $total) (local.get $len)))
    (local.set $iovs (i32.add (local.get $iovs) (i32.const 8)))
    (local.set $count (i32.sub (local.get $count) (i32.const 1)))
    (br $next)))
  (i32.store $guest (local.get $out) (local.get $total))
  (i32.const 0))

;; stdout past its bound ends the guest; stderr past its bound is counted and dropped.
(func $fd_write (param $fd i32) (param $iovs i32) (param $count i32) (param $out i32) (result i32)
  (local $total i32) (local $len i32) (local $field i32) (local $held i32) (local $room i32) (local $end i32)
  (if (i32.gt_u (local.get $fd) (i32.const 2))
    (then
      (if (call $take_bytes (i64.const 0) (call $size (local.get $iovs) (local.get $count)))
        (then (return (i32.const 51))))
      (return @granted)))
  (if (i32.eqz (local.get $fd)) (then (return (i32.const 8))))
  (local.set $field (select (i32.const @out_ptr) (i32.const @err_ptr) (i32.eq (local.get $fd) (i32.const 1))))
  (block $done (loop $next
    (br_if $done (i32.eqz (local.get $count)))
    (local.set $len (i32.load $guest offset=4 (local.get $iovs)))
    (local.set $total (i32.add (local.get $total) (local.get $len)))
    (local.set $held (i32.load $io offset=4 (local.get $field)))
    (local.set $room (i32.sub (i32.load $io offset=8 (local.get $field)) (local.get $held)))
    (if (i32.gt_u (local.get $len) (local.get $room))
      (then
        (if (i32.eq (local.get $fd) (i32.const 1))
          (then (i32.store $io (i32.const @overflow) (i32.const 1)) unreachable))
        (i64.store $io (i32.const @dropped)
          (i64.add (i64.load $io (i32.const @dropped))
            (i64.extend_i32_u (i32.sub (local.get $len) (local.get $room)))))
        (local.set $len (local.get $room))))
    (if (local.get $len)
      (then
        (local.set $end
          (i32.add (i32.load $io (local.get $field)) (i32.add (local.get $held) (local.get $len))))
        (if (i32.gt_u (local.get $end) (memory.size $io))
          (then
            (if (i32.eq (i32.const -1)
                (memory.grow $io
                  (i32.sub
                    (i32.and (i32.add (local.get $end) (i32.const 65535)) (i32.const -65536))
                    (memory.size $io))))
              (then (i32.store $io (i32.const @overflow) (i32.const 2)) unreachable))))
        (memory.copy $io $guest
          (i32.sub (local.get $end) (local.get $len))
          (i32.load $guest (local.get $iovs))
          (local.get $len))
        (i32.store $io offset=4 (local.get $field) (i32.add (local.get $held) (local.get $len)))))
    (local.set $iovs (i32.add (local.get $iovs) (i32.const 8)))
    (local.set $count (i32.sub (local.get $count) (i32.const 1)))
    (br $next)))
  (i32.store $guest (local.get $out) (local.get $total))
  (i32.const 0))

;; Neither a terminal nor a file: wasi-libc then buffers stdout in full.
(func $fd_fdstat_get (param $fd i32) (param $out i32) (result i32)
  (if (i32.gt_u (local.get $fd) (i32.const 2)) (then (return @granted)))
  (i64.store $guest (local.get $out) (i64.const 0))
  (i64.store $guest offset=8 (local.get $out) (select (i64.const 0x8000040) (i64.const 0x8000002) (local.get $fd)))
  (i64.store $guest offset=16 (local.get $out) (i64.const 0))
  (i32.const 0))

(func $fd_filestat_get (param $fd i32) (param $out i32) (result i32)
  (if (i32.gt_u (local.get $fd) (i32.const 2)) (then (return @granted)))
  (memory.fill $guest (local.get $out) (i32.const 0) (i32.const 64))
  (i32.const 0))

(func $fd_close (param $fd i32) (result i32)
  (local $errno i32)
  (if (i32.gt_u (local.get $fd) (i32.const 2))
    (then
      (local.set $errno @granted)
      (if (i32.and (i32.eqz (local.get $errno)) (i32.ne (i32.const 0) (i32.load $io (i32.const @open_fds))))
        (then (i32.store $io (i32.const @open_fds) (i32.sub (i32.load $io (i32.const @open_fds)) (i32.const 1)))))
      (return (local.get $errno))))
  (i32.const 0))

(func $fd_fdstat_set_flags (param $fd i32) (param i32) (result i32)
  (if (i32.gt_u (local.get $fd) (i32.const 2)) (then (return @granted)))
  (i32.const 0))

(func $fd_fdstat_set_rights (param $fd i32) (param i64 i64) (result i32)
  (if (i32.gt_u (local.get $fd) (i32.const 2)) (then (return @granted)))
  (i32.const 58))

(func $fd_seek (param $fd i32) (param $offset i64) (param $whence i32) (param i32) (result i32)
  (if (i32.gt_u (local.get $fd) (i32.const 2))
    (then
      ;; from the start as far as a file may get; from elsewhere at the price of that many bytes
      (if (i64.gt_s (local.get $offset) (i64.const 0))
        (then
          (if (local.get $whence)
            (then (if (call $take_bytes (i64.const 0) (local.get $offset)) (then (return (i32.const 51)))))
            (else
              (if (i64.gt_u (local.get $offset) (i64.load $io (i32.const @max_file)))
                (then (return (i32.const 22))))))))
      (return @granted)))
  (i32.const 70))

(func $fd_tell (param $fd i32) (param i32) (result i32)
  (if (i32.gt_u (local.get $fd) (i32.const 2)) (then (return @granted)))
  (i32.const 70))

(func $fd_pread (param $fd i32) (param i32 i32 i64 i32) (result i32)
  (if (i32.gt_u (local.get $fd) (i32.const 2)) (then (return @granted)))
  (i32.const 70))

(func $fd_pwrite
  (param $fd i32) (param $iovs i32) (param $count i32) (param $offset i64) (param i32) (result i32)
  (if (i32.gt_u (local.get $fd) (i32.const 2))
    (then
      (if (call $take_bytes (local.get $offset) (call $size (local.get $iovs) (local.get $count)))
        (then (return (i32.const 51))))
      (return @granted)))
  (i32.const 70))

(func $fd_advise (param $fd i32) (param i64 i64 i32) (result i32)
  (if (i32.gt_u (local.get $fd) (i32.const 2)) (then (return @granted)))
  (i32.const 70))

(func $fd_allocate (param $fd i32) (param $offset i64) (param $len i64) (result i32)
  (if (i32.gt_u (local.get $fd) (i32.const 2))
    (then
      (if (call $take_bytes (local.get $offset) (local.get $len)) (then (return (i32.const 51))))
      (return @granted)))
  (i32.const 70))

(func $fd_filestat_set_size (param $fd i32) (param $size i64) (result i32)
  (if (i32.gt_u (local.get $fd) (i32.const 2))
    (then
      (if (call $take_bytes (i64.const 0) (local.get $size)) (then (return (i32.const 51))))
      (return @granted)))
  (i32.const 28))

(func $fd_filestat_set_times (param $fd i32) (param i64 i64 i32) (result i32)
  (if (i32.gt_u (local.get $fd) (i32.const 2)) (then (return @granted)))
  (i32.const 28))

(func $fd_readdir (param $fd i32) (param i32 i32 i64 i32) (result i32)
  (if (i32.gt_u (local.get $fd) (i32.const 2)) (then (return @granted)))
  (i32.const 54))

(func $fd_datasync (param $fd i32) (result i32)
  (if (i32.gt_u (local.get $fd) (i32.const 2)) (then (return @granted)))
  (i32.const 0))

(func $fd_sync (param $fd i32) (result i32)
  (if (i32.gt_u (local.get $fd) (i32.const 2)) (then (return @granted)))
  (i32.const 0))

(func $fd_renumber (param $from i32) (param $to i32) (result i32)
  (if (i32.and (i32.gt_u (local.get $from) (i32.const 2)) (i32.gt_u (local.get $to) (i32.const 2)))
    (then (return @granted)))
  (i32.const 58))

(func $fd_prestat_get (param $fd i32) (param i32) (result i32)
  (if (i32.gt_u (local.get $fd) (i32.const 2)) (then (return @granted)))
  (i32.const 8))

(func $fd_prestat_dir_name (param $fd i32) (param i32 i32) (result i32)
  (if (i32.gt_u (local.get $fd) (i32.const 2)) (then (return @granted)))
  (i32.const 8))

;; Opening a FIFO, a device or a socket could block or reach beyond the grant: the host is asked for the kind
;; first. Its answer needs 64 bytes of the guest's memory, which are saved and put back.
(func $path_open
  (param $fd i32) (param $lookup i32) (param $path i32) (param $path_len i32) (param $oflags i32)
  (param $rights i64) (param i64) (param i32) (param i32) (result i32)
  (local $errno i32) (local $kind i32)
  (if (i32.eqz (i32.load $io (i32.const @files))) (then (return (i32.const 8))))
  (if (i32.ge_u (i32.load $io (i32.const @open_fds)) (i32.load $io (i32.const @max_fds)))
    (then (return (i32.const 33))))
  (if (i32.and (local.get $oflags) (i32.const 1))
    (then (if (call $take_entry) (then (return (i32.const 19))))))
  (memory.copy $io $guest (i32.const @scratch) (i32.const 0) (i32.const 64))
  (local.set $errno
    (call_indirect $host (type $path_filestat_get)
      (local.get $fd) (i32.const 1) (local.get $path) (local.get $path_len) (i32.const 0)
      (i32.const @path_filestat_get)))
  (local.set $kind (i32.load8_u $guest (i32.const 16)))
  (memory.copy $guest $io (i32.const 0) (i32.const @scratch) (i32.const 64))
  (if (i32.and
      (i32.eqz (local.get $errno))
      (i32.and (i32.ne (local.get $kind) (i32.const 3)) (i32.ne (local.get $kind) (i32.const 4))))
    (then (local.set $errno (i32.const 2)))
    (else
      (local.set $errno @host)
      (if (i32.eqz (local.get $errno))
        (then
          (i32.store $io (i32.const @open_fds) (i32.add (i32.load $io (i32.const @open_fds)) (i32.const 1)))
          (return (i32.const 0))))))
  ;; creating, truncating, or the right to write (bit 6)
  (call $denied (local.get $errno) (i32.or (i32.and (local.get $oflags) (i32.const 9)) (i32.and (i32.wrap_i64 (local.get $rights)) (i32.const 64))) (local.get $path) (local.get $path_len))
  (local.get $errno))

(func $path_filestat_get (param $fd i32) (param i32) (param $path i32) (param $path_len i32) (param i32) (result i32)
  (local $errno i32)
  (local.set $errno @granted)
  (call $denied (local.get $errno) (i32.const 0) (local.get $path) (local.get $path_len))
  (local.get $errno))

(func $path_readlink (param $fd i32) (param $path i32) (param $path_len i32) (param i32 i32 i32) (result i32)
  (local $errno i32)
  (local.set $errno @granted)
  (call $denied (local.get $errno) (i32.const 0) (local.get $path) (local.get $path_len))
  (local.get $errno))

(func $path_create_directory (param $fd i32) (param $path i32) (param $path_len i32) (result i32)
  (local $errno i32)
  (if (i32.load $io (i32.const @files))
    (then (if (call $take_entry) (then (return (i32.const 19))))))
  (local.set $errno @granted)
  (call $denied (local.get $errno) (i32.const 1) (local.get $path) (local.get $path_len))
  (local.get $errno))

(func $path_remove_directory (param $fd i32) (param $path i32) (param $path_len i32) (result i32)
  (local $errno i32)
  (local.set $errno @granted)
  (call $denied (local.get $errno) (i32.const 1) (local.get $path) (local.get $path_len))
  (local.get $errno))

(func $path_unlink_file (param $fd i32) (param $path i32) (param $path_len i32) (result i32)
  (local $errno i32)
  (local.set $errno @granted)
  (call $denied (local.get $errno) (i32.const 1) (local.get $path) (local.get $path_len))
  (local.get $errno))

(func $path_filestat_set_times
  (param $fd i32) (param i32) (param $path i32) (param $path_len i32) (param i64 i64 i32) (result i32)
  (local $errno i32)
  (local.set $errno @granted)
  (call $denied (local.get $errno) (i32.const 1) (local.get $path) (local.get $path_len))
  (local.get $errno))

(func $path_link
  (param $fd i32) (param i32) (param $from i32) (param $from_len i32) (param i32) (param $path i32)
  (param $path_len i32) (result i32)
  (local $errno i32)
  (if (i32.load $io (i32.const @files))
    (then (if (call $take_entry) (then (return (i32.const 19))))))
  (local.set $errno @granted)
  (call $denied (local.get $errno) (i32.const 1) (local.get $path) (local.get $path_len))
  (local.get $errno))

(func $path_rename
  (param $fd i32) (param $from i32) (param $from_len i32) (param i32) (param $path i32) (param $path_len i32)
  (result i32)
  (local $errno i32)
  (local.set $errno @granted)
  (call $denied (local.get $errno) (i32.const 1) (local.get $path) (local.get $path_len))
  (local.get $errno))

(func $path_symlink
  (param $from i32) (param $from_len i32) (param $fd i32) (param $path i32) (param $path_len i32) (result i32)
  (local $errno i32)
  (if (i32.load $io (i32.const @files))
    (then (if (call $take_entry) (then (return (i32.const 19))))))
  (local.set $errno @granted)
  (call $denied (local.get $errno) (i32.const 1) (local.get $path) (local.get $path_len))
  (local.get $errno))

(func $poll_oneoff (param i32 i32 i32 i32) (result i32) @host)

;; The import module "edge": call(operation, payload, length) gives the length of the result, or an errno below 0;
;; take(pointer) copies the result, once, and gives an errno.
(func $edge_call (param i32 i32 i32) (result i32) @host)
(func $edge_take (param i32) (result i32) @host)

;; The host reads the exit code, then sees the trap.
(func $proc_exit (param $code i32)
  (i32.store $io (i32.const @exit) (i32.const 1))
  (i32.store $io (i32.const @exit_code) (local.get $code))
  unreachable)

(func $proc_raise (param i32) (result i32) (i32.const 58))

(func $sched_yield (result i32) (i32.const 0))

(func $sock_accept (param i32 i32 i32) (result i32) (i32.const 57))
(func $sock_recv (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 57))
(func $sock_send (param i32 i32 i32 i32 i32) (result i32) (i32.const 57))
(func $sock_shutdown (param i32 i32) (result i32) (i32.const 57))

;; ChaCha20 (RFC 8439) under a key that the host draws afresh for each invocation.
(func $random_get (param $out i32) (param $len i32) (result i32)
  (local $a v128) (local $b v128) (local $c v128) (local $d v128)
  (local $round i32) (local $pos i32) (local $n i32)
  (block $done (loop $next
    (br_if $done (i32.eqz (local.get $len)))
    (local.set $pos (i32.and (i32.load $io (i32.const @random_pos)) (i32.const 63)))
    (if (i32.eqz (local.get $pos))
      (then
        (local.set $a (v128.const i32x4 0x61707865 0x3320646e 0x79622d32 0x6b206574))
        (local.set $b (v128.load $io (i32.const @random_key)))
        (local.set $c (v128.load $io offset=16 (i32.const @random_key)))
        (local.set $d (v128.load $io (i32.const @random_counter)))
        (local.set $round (i32.const 10))
        (loop $rounds
          (local.set $a (i32x4.add (local.get $a) (local.get $b)))
          (local.set $d (v128.xor (local.get $d) (local.get $a)))
          (local.set $d (v128.or (i32x4.shl (local.get $d) (i32.const 16)) (i32x4.shr_u (local.get $d) (i32.const 16))))
          (local.set $c (i32x4.add (local.get $c) (local.get $d)))
          (local.set $b (v128.xor (local.get $b) (local.get $c)))
          (local.set $b (v128.or (i32x4.shl (local.get $b) (i32.const 12)) (i32x4.shr_u (local.get $b) (i32.const 20))))
          (local.set $a (i32x4.add (local.get $a) (local.get $b)))
          (local.set $d (v128.xor (local.get $d) (local.get $a)))
          (local.set $d (v128.or (i32x4.shl (local.get $d) (i32.const 8)) (i32x4.shr_u (local.get $d) (i32.const 24))))
          (local.set $c (i32x4.add (local.get $c) (local.get $d)))
          (local.set $b (v128.xor (local.get $b) (local.get $c)))
          (local.set $b (v128.or (i32x4.shl (local.get $b) (i32.const 7)) (i32x4.shr_u (local.get $b) (i32.const 25))))
          (local.set $b (i8x16.shuffle 4 5 6 7 8 9 10 11 12 13 14 15 0 1 2 3 (local.get $b) (local.get $b)))
          (local.set $c (i8x16.shuffle 8 9 10 11 12 13 14 15 0 1 2 3 4 5 6 7 (local.get $c) (local.get $c)))
          (local.set $d (i8x16.shuffle 12 13 14 15 0 1 2 3 4 5 6 7 8 9 10 11 (local.get $d) (local.get $d)))
          (local.set $a (i32x4.add (local.get $a) (local.get $b)))
          (local.set $d (v128.xor (local.get $d) (local.get $a)))
          (local.set $d (v128.or (i32x4.shl (local.get $d) (i32.const 16)) (i32x4.shr_u (local.get $d) (i32.const 16))))
          (local.set $c (i32x4.add (local.get $c) (local.get $d)))
          (local.set $b (v128.xor (local.get $b) (local.get $c)))
          (local.set $b (v128.or (i32x4.shl (local.get $b) (i32.const 12)) (i32x4.shr_u (local.get $b) (i32.const 20))))
          (local.set $a (i32x4.add (local.get $a) (local.get $b)))
          (local.set $d (v128.xor (local.get $d) (local.get $a)))
          (local.set $d (v128.or (i32x4.shl (local.get $d) (i32.const 8)) (i32x4.shr_u (local.get $d) (i32.const 24))))
          (local.set $c (i32x4.add (local.get $c) (local.get $d)))
          (local.set $b (v128.xor (local.get $b) (local.get $c)))
          (local.set $b (v128.or (i32x4.shl (local.get $b) (i32.const 7)) (i32x4.shr_u (local.get $b) (i32.const 25))))
          (local.set $b (i8x16.shuffle 12 13 14 15 0 1 2 3 4 5 6 7 8 9 10 11 (local.get $b) (local.get $b)))
          (local.set $c (i8x16.shuffle 8 9 10 11 12 13 14 15 0 1 2 3 4 5 6 7 (local.get $c) (local.get $c)))
          (local.set $d (i8x16.shuffle 4 5 6 7 8 9 10 11 12 13 14 15 0 1 2 3 (local.get $d) (local.get $d)))
          (br_if $rounds (local.tee $round (i32.sub (local.get $round) (i32.const 1)))))
        (v128.store $io (i32.const @random_block)
          (i32x4.add (local.get $a) (v128.const i32x4 0x61707865 0x3320646e 0x79622d32 0x6b206574)))
        (v128.store $io offset=16 (i32.const @random_block)
          (i32x4.add (local.get $b) (v128.load $io (i32.const @random_key))))
        (v128.store $io offset=32 (i32.const @random_block)
          (i32x4.add (local.get $c) (v128.load $io offset=16 (i32.const @random_key))))
        (v128.store $io offset=48 (i32.const @random_block)
          (i32x4.add (local.get $d) (v128.load $io (i32.const @random_counter))))
        (i64.store $io (i32.const @random_counter)
          (i64.add (i64.load $io (i32.const @random_counter)) (i64.const 1)))
        (local.set $pos (i32.const 0))))
    (local.set $n (i32.sub (i32.const 64) (local.get $pos)))
    (if (i32.lt_u (local.get $len) (local.get $n)) (then (local.set $n (local.get $len))))
    (memory.copy $guest $io
      (local.get $out) (i32.add (i32.const @random_block) (local.get $pos)) (local.get $n))
    (i32.store $io (i32.const @random_pos) (i32.add (local.get $pos) (local.get $n)))
    (local.set $out (i32.add (local.get $out) (local.get $n)))
    (local.set $len (i32.sub (local.get $len) (local.get $n)))
    (br $next)))
  (i32.const 0))

;; The strings of a block (count, size, offsets, data) and the pointers to them, as args_get and environ_get give.
(func $strings (param $block i32) (param $pointers i32) (param $data i32)
  (local $left i32)
  (local.set $left (i32.load $io (local.get $block)))
  (memory.copy $guest $io
    (local.get $data)
    (i32.add (i32.add (local.get $block) (i32.const 8)) (i32.shl (local.get $left) (i32.const 2)))
    (i32.load $io offset=4 (local.get $block)))
  (block $done (loop $next
    (br_if $done (i32.eqz (local.get $left)))
    (i32.store $guest (local.get $pointers) (i32.add (local.get $data) (i32.load $io offset=8 (local.get $block))))
    (local.set $pointers (i32.add (local.get $pointers) (i32.const 4)))
    (local.set $block (i32.add (local.get $block) (i32.const 4)))
    (local.set $left (i32.sub (local.get $left) (i32.const 1)))
    (br $next))))

;; The bytes of iovs.
(func $size (param $iovs i32) (param $count i32) (result i64)
  (local $total i64)
  (block $done (loop $next
    (br_if $done (i32.eqz (local.get $count)))
    (local.set $total (i64.add (local.get $total) (i64.load32_u $guest offset=4 (local.get $iovs))))
    (local.set $iovs (i32.add (local.get $iovs) (i32.const 8)))
    (local.set $count (i32.sub (local.get $count) (i32.const 1)))
    (br $next)))
  (local.get $total))

;; Takes bytes from what may be written; 1 where there are not as many left, or a file would get too large.
(func $take_bytes (param $offset i64) (param $bytes i64) (result i32)
  (if (i64.gt_u (local.get $offset) (i64.load $io (i32.const @max_file))) (then (return (i32.const 1))))
  (if (i64.gt_u (local.get $bytes) (i64.load $io (i32.const @bytes_left))) (then (return (i32.const 1))))
  (i64.store $io (i32.const @bytes_left) (i64.sub (i64.load $io (i32.const @bytes_left)) (local.get $bytes)))
  (i32.const 0))

;; Takes one from the entries that may be created; 1 where none is left.
(func $take_entry (result i32)
  (if (i32.eqz (i32.load $io (i32.const @entries_left))) (then (return (i32.const 1))))
  (i32.store $io (i32.const @entries_left) (i32.sub (i32.load $io (i32.const @entries_left)) (i32.const 1)))
  (i32.const 0))

;; Notes the first 8 refusals of the file system (errno, write, length and start of the path) for the log.
(func $denied (param $errno i32) (param $write i32) (param $path i32) (param $len i32)
  (local $at i32)
  (if (i32.eqz (i32.or
      (i32.or (i32.eq (local.get $errno) (i32.const 2)) (i32.eq (local.get $errno) (i32.const 63)))
      (i32.or (i32.eq (local.get $errno) (i32.const 69)) (i32.eq (local.get $errno) (i32.const 76)))))
    (then (return)))
  (local.set $at (i32.load $io (i32.const @denials)))
  (i32.store $io (i32.const @denials) (i32.add (local.get $at) (i32.const 1)))
  (if (i32.ge_u (local.get $at) (i32.const 8)) (then (return)))
  (local.set $at (i32.add (i32.const @denial_list) (i32.mul (local.get $at) (i32.const 144))))
  (if (i32.gt_u (local.get $len) (i32.const 128)) (then (local.set $len (i32.const 128))))
  (i32.store $io (local.get $at) (local.get $errno))
  (i32.store $io offset=4 (local.get $at) (local.get $write))
  (i32.store $io offset=8 (local.get $at) (local.get $len))
  (memory.copy $io $guest (i32.add (local.get $at) (i32.const 16)) (local.get $path) (local.get $len)))

;; Every memory.grow of the guest becomes a call of this: the policy's bound, and a note of what was refused.
(func $memory_grow (param $delta i32) (result i32)
  (local $before i32)
  (if (i64.gt_u
      (i64.add (i64.extend_i32_u (local.get $delta)) (i64.extend_i32_u (memory.size $guest)))
      (i64.extend_i32_u (i32.load $io (i32.const @max_pages))))
    (then
      (i32.store $io (i32.const @refused_pages) (local.get $delta))
      (i32.store $io (i32.const @refused) (i32.const 1))
      (return (i32.const -1))))
  (local.set $before (memory.grow $guest (local.get $delta)))
  (i32.store $io (i32.const @pages) (memory.size $guest))
  (local.get $before))
