# Sourced by the batch scripts of this folder: Halocline's environment, threads, and how tasks are started.
home=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

fail() { echo "${SLURM_JOB_NAME:-halocline}: $*" >&2; exit 2; }

# Edit here if Halocline is installed elsewhere, or needs modules: set +u; module load gcc openmpi python; set -u
environment=${HALOCLINE_ENVIRONMENT:-$home/.venv}
[ -x "$environment/bin/halocline" ] ||
  fail "$environment has no bin/halocline: run jobs/setup once, or set HALOCLINE_ENVIRONMENT to the environment that has it."
export PATH="$environment/bin:$PATH"

# One thread per core of a task; srun does not take the number from sbatch by itself.
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}

# A rank that dies must take the job with it: the others would wait for it, at best until a deadline. --export: a job that
# was submitted with --export=NONE would else start its tasks without all of the above.
launch() { srun --mpi=pmix --kill-on-bad-exit=1 --cpu-bind=cores --export=ALL "$@"; }
