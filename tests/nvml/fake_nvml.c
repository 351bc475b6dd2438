/* A scripted libnvidia-ml.so.1: NVML's real C ABI in front of GPUs that exist only in a text file.
 *
 *   script file ──(re-read when it changes)──▶ settings, curves, faults ──▶ answers to pynvml's ctypes calls
 *   fake_nvml_set_time / fake_nvml_set_power  ──▶ the same, from inside the process under test
 *
 * Compiled against the header of the package nvidia-nvml-dev, so that every prototype, struct and constant is
 * NVIDIA's own. library.py builds it and writes the scripts. A script is lines of key=value:
 *
 *   driver, cuda (1000 * major + 10 * minor), gpus (count)
 *   reread_every_s           how often to look whether the script changed; absent means at every call
 *   gpuG.KEY                 a reading of GPU G; absent means NOT_SUPPORTED
 *   gpuG.migM.KEY            a reading of its MIG instance M
 *   fault.FUNCTION           return code of a function; "15@3" from its third call on (counted since the script was read)
 *   gpuG.fault.FUNCTION      the same for one GPU; FUNCTION may be * for "any call that concerns this GPU"
 *   gpuG.field.ID            return code of one field of nvmlDeviceGetFieldValues
 *
 * A value may be a curve over seconds, "0:60,2:300,5:60": 60 until 2 s, 300 until 5 s, then 60. Power and slowdowns
 * keep their past when the script changes, so that counters never run backwards. */
#include <nvml.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { GPUS = 4, INSTANCES = 7, SETTINGS = 512, POINTS = 1024 };

struct nvmlDevice_st { int gpu, mig; char prefix[24]; };
struct setting { const char *key, *value; long calls; };
struct site { const char *function; long calls; struct site *next; };

/* A piecewise constant function of time with its integral up to each point. */
struct curve { int n; double t[POINTS], v[POINTS], sum[POINTS]; };

enum cause { POWER_CAP, SW_THERMAL, HW_THERMAL, POWER_BRAKE, CAUSES };
static const char *const cause_keys[CAUSES] = {"slow.power-cap", "slow.sw-thermal", "slow.hw-thermal",
                                               "slow.power-brake"};
static const unsigned long long cause_bits[CAUSES] = {
    nvmlClocksEventReasonSwPowerCap, nvmlClocksEventReasonSwThermalSlowdown,
    nvmlClocksThrottleReasonHwThermalSlowdown | nvmlClocksThrottleReasonHwSlowdown,
    nvmlClocksThrottleReasonHwPowerBrakeSlowdown | nvmlClocksThrottleReasonHwSlowdown};

void fake_nvml_set_time(double seconds);
void fake_nvml_set_power(unsigned int gpu, double watts);
long fake_nvml_calls(const char *function);
int fake_nvml_references(void);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct nvmlDevice_st gpus[GPUS], instances[GPUS][INSTANCES];
static struct curve power[GPUS], slow[GPUS][CAUSES]; /* power in mW: its integral over seconds is in mJ */
static struct setting settings[SETTINGS];
static int setting_count, references;
static char text[1 << 16];
static struct stat script_as_read; /* by inode too: the clock of file times ticks only every few milliseconds */
static double started_s, virtual_s = -1, looked_s = -1, reread_s;
static struct site *sites;

/* ---- time and curves ---- */

static double clock_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double now_s(void) {
    if (virtual_s >= 0) return virtual_s;
    double s = clock_s();
    if (started_s == 0) started_s = s;
    return s - started_s;
}

static int piece_at(const struct curve *c, double t) {
    int low = 0, high = c->n - 1;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (c->t[middle] <= t) low = middle; else high = middle - 1;
    }
    return low;
}

static double integral(const struct curve *c, double t) {
    if (c->n == 0) return 0;
    int i = piece_at(c, t);
    return c->sum[i] + c->v[i] * (t - c->t[i]);
}

static double mean_between(const struct curve *c, double from, double to) {
    if (c->n == 0) return 0;
    return to > from ? (integral(c, to) - integral(c, from)) / (to - from) : c->v[piece_at(c, to)];
}

static void append(struct curve *c, double t, double v) {
    while (c->n > 0 && c->t[c->n - 1] >= t) c->n--;
    double sum = c->n ? integral(c, t) : 0;
    if (c->n == POINTS) { /* forget the older half; the integrals stay */
        int half = POINTS / 2;
        memmove(c->t, c->t + half, sizeof c->t - half * sizeof *c->t);
        memmove(c->v, c->v + half, sizeof c->v - half * sizeof *c->v);
        memmove(c->sum, c->sum + half, sizeof c->sum - half * sizeof *c->sum);
        c->n = half;
    }
    c->t[c->n] = t, c->v[c->n] = v, c->sum[c->n] = sum;
    c->n++;
}

/* The script's curve from now on; what is past stays as it was. */
static void extend(struct curve *c, const char *script, double scale, double now) {
    if (!strchr(script, ':')) { append(c, c->n ? now : 0, strtod(script, NULL) * scale); return; }
    double current = 0;
    int known = 0, fresh = c->n == 0;
    while (c->n > 1 && c->t[c->n - 1] > now) c->n--;
    for (const char *at = script; *at;) {
        char *end;
        double t = strtod(at, &end), v = strtod(end + 1, &end) * scale;
        if (fresh || t > now) {
            if (!fresh && known) append(c, now, current);
            known = 0;
            append(c, t, v);
        } else current = v, known = 1;
        at = *end == ',' ? end + 1 : end;
    }
    if (known) append(c, now, current);
}

static double value_at(const char *script, double now) {
    if (!strchr(script, ':')) return strtod(script, NULL);
    double v = 0;
    for (const char *at = script; *at;) {
        char *end;
        double t = strtod(at, &end), next = strtod(end + 1, &end);
        if (at != script && t > now) break;
        v = next;
        at = *end == ',' ? end + 1 : end;
    }
    return v;
}

/* ---- the script ---- */

static int by_key(const void *a, const void *b) {
    return strcmp(((const struct setting *)a)->key, ((const struct setting *)b)->key);
}

static struct setting *find(const char *key) {
    struct setting wanted = {key, NULL, 0};
    return bsearch(&wanted, settings, (size_t)setting_count, sizeof *settings, by_key);
}

static const char *of_device(nvmlDevice_t d, const char *key) {
    char name[96];
    snprintf(name, sizeof name, "%s.%s", d->prefix, key);
    struct setting *s = find(name);
    return s ? s->value : NULL;
}

static double number(nvmlDevice_t d, const char *key, double otherwise) {
    const char *script = of_device(d, key);
    return script ? value_at(script, now_s()) : otherwise;
}

static void name_devices(void) {
    for (int g = 0; g < GPUS; g++) {
        gpus[g].gpu = g, gpus[g].mig = -1;
        snprintf(gpus[g].prefix, sizeof gpus[g].prefix, "gpu%d", g);
        for (int m = 0; m < INSTANCES; m++) {
            instances[g][m].gpu = g, instances[g][m].mig = m;
            snprintf(instances[g][m].prefix, sizeof instances[g][m].prefix, "gpu%d.mig%d", g, m);
        }
    }
}

static void split(void) {
    setting_count = 0;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *equals = strchr(line, '=');
        if (!equals || line[0] == '#') continue;
        if (setting_count == SETTINGS) abort();
        *equals = 0;
        settings[setting_count++] = (struct setting){line, equals + 1, 0};
    }
    qsort(settings, (size_t)setting_count, sizeof *settings, by_key);
}

static void load_if_changed(void) {
    struct stat found;
    if (looked_s >= 0 && clock_s() < looked_s + reread_s) return;
    const char *path = getenv("FAKE_NVML_SCRIPT");
    if (!path || stat(path, &found) != 0) return;
    looked_s = clock_s();
    if (found.st_ino == script_as_read.st_ino && found.st_size == script_as_read.st_size &&
        found.st_mtim.tv_sec == script_as_read.st_mtim.tv_sec &&
        found.st_mtim.tv_nsec == script_as_read.st_mtim.tv_nsec) return;
    FILE *file = fopen(path, "r");
    if (!file) return;
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    script_as_read = found;
    name_devices();
    split();
    struct setting *reread = find("reread_every_s");
    reread_s = reread ? strtod(reread->value, NULL) : 0;
    for (int g = 0; g < GPUS; g++) {
        const char *script = of_device(&gpus[g], "power_w");
        if (script) extend(&power[g], script, 1000, now_s());
        for (int c = 0; c < CAUSES; c++)
            if ((script = of_device(&gpus[g], cause_keys[c]))) extend(&slow[g][c], script, 1, now_s());
    }
}

/* ---- entry: every call is counted, may be made to fail, and holds the lock ---- */

static nvmlReturn_t scripted_code(struct setting *fault) {
    if (!fault) return NVML_SUCCESS;
    const char *from = strchr(fault->value, '@');
    return ++fault->calls >= (from ? atol(from + 1) : 1) ? (nvmlReturn_t)atoi(fault->value) : NVML_SUCCESS;
}

static nvmlReturn_t device_fault(const char *function, nvmlDevice_t d) {
    char key[128];
    snprintf(key, sizeof key, "gpu%d.fault.*", d->gpu);
    nvmlReturn_t code = scripted_code(find(key));
    if (code != NVML_SUCCESS) return code;
    snprintf(key, sizeof key, "%s.fault.%s", d->prefix, function);
    return scripted_code(find(key));
}

static nvmlReturn_t fault_of(const char *function, nvmlDevice_t d) {
    char key[128];
    snprintf(key, sizeof key, "fault.%s", function);
    nvmlReturn_t code = scripted_code(find(key));
    return code != NVML_SUCCESS || !d ? code : device_fault(function, d);
}

static void enter(struct site *site) {
    pthread_mutex_lock(&lock);
    if (!site->calls++) site->next = sites, sites = site;
    load_if_changed();
}

static nvmlReturn_t leave(nvmlReturn_t code) {
    pthread_mutex_unlock(&lock);
    return code;
}

#define BEGIN(device)                                                  \
    static struct site site = {__func__, 0, NULL};                     \
    enter(&site);                                                      \
    nvmlReturn_t code = fault_of(__func__, device);                    \
    if (code == NVML_SUCCESS && !references) code = NVML_ERROR_UNINITIALIZED; \
    if (code != NVML_SUCCESS) return leave(code)
#define WHOLE_GPU_ONLY(d) if ((d)->mig >= 0) return leave(NVML_ERROR_NOT_SUPPORTED)

static nvmlReturn_t give_text(const char *value, char *out, unsigned int length) {
    if (!value) return NVML_ERROR_NOT_SUPPORTED;
    if (strlen(value) + 1 > length) return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(out, value);
    return NVML_SUCCESS;
}

static nvmlReturn_t give_number(nvmlDevice_t d, const char *key, unsigned int *out) {
    double value = number(d, key, -1);
    if (value < 0) return NVML_ERROR_NOT_SUPPORTED;
    *out = (unsigned int)value;
    return NVML_SUCCESS;
}

/* ---- what the tests steer and count from inside the process ---- */

void fake_nvml_set_time(double seconds) { /* from now on time stands still until the next call */
    pthread_mutex_lock(&lock);
    virtual_s = seconds;
    pthread_mutex_unlock(&lock);
}

void fake_nvml_set_power(unsigned int gpu, double watts) {
    pthread_mutex_lock(&lock);
    load_if_changed();
    append(&power[gpu], now_s(), watts * 1000);
    pthread_mutex_unlock(&lock);
}

long fake_nvml_calls(const char *function) { /* how often it was called; of every function for "" */
    long calls = 0;
    pthread_mutex_lock(&lock);
    for (struct site *s = sites; s; s = s->next)
        if (!*function || !strcmp(s->function, function)) calls += s->calls;
    pthread_mutex_unlock(&lock);
    return calls;
}

int fake_nvml_references(void) { return references; }

/* ---- system ---- */

nvmlReturn_t nvmlInitWithFlags(unsigned int flags) {
    static struct site site = {"nvmlInitWithFlags", 0, NULL};
    (void)flags;
    enter(&site);
    nvmlReturn_t code = fault_of("nvmlInitWithFlags", NULL);
    if (code == NVML_SUCCESS) references++, now_s();
    return leave(code);
}
nvmlReturn_t nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
nvmlReturn_t nvmlShutdown(void) { BEGIN(NULL); references--; return leave(NVML_SUCCESS); }
const char *nvmlErrorString(nvmlReturn_t code) { (void)code; return "an error without a name in this test library"; }
nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length) {
    BEGIN(NULL);
    struct setting *s = find("driver");
    return leave(give_text(s ? s->value : NULL, version, length));
}
nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version) {
    BEGIN(NULL);
    struct setting *s = find("cuda");
    *version = s ? atoi(s->value) : 0;
    return leave(s ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED);
}

/* ---- handles ---- */

static unsigned int gpu_count(void) { struct setting *s = find("gpus"); return s ? (unsigned int)atoi(s->value) : 0; }

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count) { BEGIN(NULL); *count = gpu_count(); return leave(NVML_SUCCESS); }
nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
    BEGIN(index < GPUS ? &gpus[index] : NULL);
    if (index >= gpu_count()) return leave(NVML_ERROR_INVALID_ARGUMENT);
    *device = &gpus[index];
    return leave(NVML_SUCCESS);
}
nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    BEGIN(NULL);
    for (unsigned int g = 0; g < gpu_count(); g++)
        for (int m = -1; m < INSTANCES; m++) {
            nvmlDevice_t d = m < 0 ? &gpus[g] : &instances[g][m];
            const char *found = of_device(d, "uuid");
            if (!found || strcmp(found, uuid)) continue;
            *device = d;
            return leave(device_fault(__func__, d));
        }
    return leave(NVML_ERROR_NOT_FOUND);
}
nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int *index) {
    BEGIN(device);
    *index = (unsigned int)(device->mig < 0 ? device->gpu : device->mig);
    return leave(NVML_SUCCESS);
}
nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending) {
    BEGIN(device);
    WHOLE_GPU_ONLY(device);
    code = give_number(device, "mig", current);
    *pending = *current;
    return leave(code);
}
nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int *count) {
    BEGIN(device);
    *count = of_device(device, "mig") ? INSTANCES : 0;
    return leave(NVML_SUCCESS);
}
nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int index, nvmlDevice_t *instance) {
    BEGIN(device);
    if (index >= INSTANCES) return leave(NVML_ERROR_INVALID_ARGUMENT);
    *instance = &instances[device->gpu][index];
    return leave(of_device(*instance, "uuid") ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND);
}
nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned int *is_instance) {
    BEGIN(device);
    *is_instance = device->mig >= 0;
    return leave(NVML_SUCCESS);
}
nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t instance, nvmlDevice_t *device) {
    BEGIN(instance);
    *device = &gpus[instance->gpu];
    return leave(instance->mig < 0 ? NVML_ERROR_INVALID_ARGUMENT : NVML_SUCCESS);
}

/* ---- what a device is ---- */

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length) {
    BEGIN(device); return leave(give_text(of_device(device, "name"), name, length));
}
nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length) {
    BEGIN(device); return leave(give_text(of_device(device, "uuid"), uuid, length));
}
nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor) {
    BEGIN(device);
    const char *value = of_device(&gpus[device->gpu], "compute_capability");
    return leave(value && sscanf(value, "%d.%d", major, minor) == 2 ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED);
}
static nvmlReturn_t give_state(nvmlDevice_t d, const char *key, nvmlEnableState_t *out) {
    unsigned int value = 0;
    nvmlReturn_t code = give_number(d, key, &value);
    *out = value ? NVML_FEATURE_ENABLED : NVML_FEATURE_DISABLED;
    return code;
}
nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t device, nvmlEnableState_t *current, nvmlEnableState_t *pending) {
    BEGIN(device);
    WHOLE_GPU_ONLY(device);
    code = give_state(device, "ecc", current);
    *pending = *current;
    return leave(code);
}
nvmlReturn_t nvmlDeviceGetPersistenceMode(nvmlDevice_t device, nvmlEnableState_t *mode) {
    BEGIN(device); WHOLE_GPU_ONLY(device); return leave(give_state(device, "persistence", mode));
}
nvmlReturn_t nvmlDeviceGetComputeMode(nvmlDevice_t device, nvmlComputeMode_t *mode) {
    BEGIN(device);
    WHOLE_GPU_ONLY(device);
    unsigned int value = 0;
    code = give_number(device, "compute_mode", &value);
    *mode = (nvmlComputeMode_t)value;
    return leave(code);
}

/* ---- memory and processes ---- */

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) { /* `used` includes the reserved */
    BEGIN(device);
    double total = number(device, "memory_total_bytes", -1), reserved = number(device, "memory_reserved_bytes", 0);
    if (total < 0) return leave(NVML_ERROR_NOT_SUPPORTED);
    memory->total = (unsigned long long)total;
    memory->used = (unsigned long long)(number(device, "memory_used_bytes", 0) + reserved);
    memory->free = memory->total - memory->used;
    return leave(NVML_SUCCESS);
}
nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory) {
    BEGIN(device);
    if (memory->version != nvmlMemory_v2) return leave(NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    double total = number(device, "memory_total_bytes", -1);
    if (total < 0) return leave(NVML_ERROR_NOT_SUPPORTED);
    memory->total = (unsigned long long)total;
    memory->reserved = (unsigned long long)number(device, "memory_reserved_bytes", 0);
    memory->used = (unsigned long long)number(device, "memory_used_bytes", 0);
    memory->free = memory->total - memory->used - memory->reserved;
    return leave(NVML_SUCCESS);
}
static unsigned int list_processes(nvmlDevice_t d, nvmlProcessInfo_t *out, unsigned int room) {
    unsigned int count = 0;
    for (int k = 0; k < 16; k++) { /* process0=pid,bytes,from,to with bytes -1 for "not told" */
        char key[24];
        snprintf(key, sizeof key, "process%d", k);
        const char *value = of_device(d, key);
        double pid, bytes, from = -INFINITY, to = INFINITY;
        if (!value || sscanf(value, "%lf,%lf,%lf,%lf", &pid, &bytes, &from, &to) < 2) continue;
        if (now_s() < from || now_s() >= to) continue;
        if (out && count < room)
            out[count] = (nvmlProcessInfo_t){(unsigned int)pid,
                bytes < 0 ? (unsigned long long)NVML_VALUE_NOT_AVAILABLE : (unsigned long long)bytes, ~0u, ~0u};
        count++;
    }
    return count;
}
static nvmlReturn_t give_processes(nvmlDevice_t d, unsigned int *count, nvmlProcessInfo_t *infos) {
    unsigned int room = *count;
    *count = list_processes(d, infos, room);
    return *count > room || (!infos && *count) ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_t *infos) {
    BEGIN(device); return leave(give_processes(device, count, infos));
}
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_v2_t *infos);
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_v2_t *infos) {
    BEGIN(device); return leave(give_processes(device, count, infos));
}

/* ---- clocks, temperature, utilisation ---- */

static nvmlReturn_t give_clock(nvmlDevice_t d, const char *kind, nvmlClockType_t type, unsigned int *mhz) {
    static const char *const names[] = {"graphics", "sm", "memory", "video"};
    char key[40];
    if (d->mig >= 0) return NVML_ERROR_NOT_SUPPORTED;
    if ((unsigned int)type > NVML_CLOCK_VIDEO) return NVML_ERROR_INVALID_ARGUMENT;
    snprintf(key, sizeof key, "%s_%s_mhz", kind, names[type]);
    return give_number(d, key, mhz);
}
nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, nvmlClockType_t type, unsigned int *mhz) {
    BEGIN(device); return leave(give_clock(device, "clock", type, mhz));
}
nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, nvmlClockType_t type, unsigned int *mhz) {
    BEGIN(device); return leave(give_clock(device, "max", type, mhz));
}
nvmlReturn_t nvmlDeviceGetApplicationsClock(nvmlDevice_t device, nvmlClockType_t type, unsigned int *mhz) {
    BEGIN(device); return leave(give_clock(device, "application", type, mhz));
}
nvmlReturn_t nvmlDeviceGetDefaultApplicationsClock(nvmlDevice_t device, nvmlClockType_t type, unsigned int *mhz) {
    BEGIN(device); return leave(give_clock(device, "default_application", type, mhz));
}
nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensor, unsigned int *celsius) {
    BEGIN(device);
    WHOLE_GPU_ONLY(device);
    if (sensor != NVML_TEMPERATURE_GPU) return leave(NVML_ERROR_INVALID_ARGUMENT);
    return leave(give_number(device, "temperature_c", celsius));
}
nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *temperature) {
    BEGIN(device);
    WHOLE_GPU_ONLY(device);
    if (temperature->version != nvmlTemperature_v1) return leave(NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    if (temperature->sensorType != NVML_TEMPERATURE_GPU) return leave(NVML_ERROR_INVALID_ARGUMENT);
    return leave(give_number(device, "temperature_c", (unsigned int *)&temperature->temperature));
}
nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilization) {
    BEGIN(device);
    WHOLE_GPU_ONLY(device);
    if (number(device, "mig", 0) > 0) return leave(NVML_ERROR_NOT_SUPPORTED);
    utilization->memory = 0;
    return leave(give_number(device, "utilization_percent", &utilization->gpu));
}

/* ---- power and energy ---- */

static double latest_update(nvmlDevice_t d, const char *period_key, const char *phase_key) {
    double period = number(d, period_key, 0), phase = number(d, phase_key, 0), now = now_s();
    return period > 0 ? floor((now - phase) / period + 1e-9) * period + phase : now;
}
static double power_mw(nvmlDevice_t d, double window_s, int module) {
    double to = latest_update(d, "power_period_s", "power_phase_s");
    double extra = module ? 1000 * number(d, "module_extra_w", 0) : 0;
    return mean_between(&power[d->gpu], to - window_s, to) + extra;
}
static nvmlReturn_t give_energy(nvmlDevice_t d, unsigned long long *mj) {
    if (d->mig >= 0 || !of_device(d, "energy_base_j")) return NVML_ERROR_NOT_SUPPORTED;
    double t = latest_update(d, "energy_period_s", "energy_phase_s");
    double extra = 1000 * number(d, "module_extra_w", 0) * t;
    double share = number(d, "energy_share", 1); /* a counter that sees only this share of the power */
    *mj = (unsigned long long)(1000 * number(d, "energy_base_j", 0) + share * (integral(&power[d->gpu], t) + extra) + 0.5);
    return NVML_SUCCESS;
}
static nvmlReturn_t give_power(nvmlDevice_t d, const char *window_key, int module, unsigned int *mw) {
    if (d->mig >= 0 || !of_device(d, "power_w")) return NVML_ERROR_NOT_SUPPORTED;
    *mw = (unsigned int)(power_mw(d, number(d, window_key, 0), module) + 0.5);
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned int *mw) {
    BEGIN(device); return leave(give_power(device, "power_average_s", 0, mw));
}
nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t device, unsigned int *mw) {
    BEGIN(device); WHOLE_GPU_ONLY(device); return leave(give_number(device, "power_limit_mw", mw));
}
nvmlReturn_t nvmlDeviceGetPowerManagementDefaultLimit(nvmlDevice_t device, unsigned int *mw) {
    BEGIN(device); WHOLE_GPU_ONLY(device); return leave(give_number(device, "power_default_mw", mw));
}
nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *mj) {
    BEGIN(device); return leave(give_energy(device, mj));
}

/* ---- slowdown: reasons now, and counters ---- */

static nvmlReturn_t give_reasons(nvmlDevice_t d, unsigned long long *reasons) {
    double scripted = number(d, "reasons", -1);
    if (d->mig >= 0 || scripted < 0) return NVML_ERROR_NOT_SUPPORTED;
    *reasons = (unsigned long long)scripted;
    for (int c = 0; c < CAUSES; c++)
        if (mean_between(&slow[d->gpu][c], now_s(), now_s()) > 0) *reasons |= cause_bits[c];
    return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device, unsigned long long *reasons) {
    BEGIN(device); return leave(give_reasons(device, reasons));
}
nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device, unsigned long long *reasons) {
    BEGIN(device); return leave(give_reasons(device, reasons));
}
static unsigned long long slowed_ns(nvmlDevice_t d, enum cause cause) {
    return (unsigned long long)(1e9 * (number(d, "slow.base_s", 0) + integral(&slow[d->gpu][cause], now_s())) + 0.5);
}
static nvmlReturn_t give_field(nvmlDevice_t d, nvmlFieldValue_t *field) {
    unsigned int mw = 0, module = field->scopeId == NVML_POWER_SCOPE_MODULE;
    nvmlReturn_t code = NVML_SUCCESS;
    field->valueType = NVML_VALUE_TYPE_UNSIGNED_LONG_LONG;
    switch (field->fieldId) {
    case NVML_FI_DEV_POWER_INSTANT: case NVML_FI_DEV_POWER_AVERAGE:
        if (field->scopeId > NVML_POWER_SCOPE_MODULE || (module && !of_device(d, "module_extra_w")))
            return NVML_ERROR_NOT_SUPPORTED;
        code = give_power(d, field->fieldId == NVML_FI_DEV_POWER_INSTANT ? "power_window_s" : "power_average_s",
                          (int)module, &mw);
        field->valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
        field->value.uiVal = mw;
        return code;
    case NVML_FI_DEV_PERF_POLICY_POWER: field->value.ullVal = slowed_ns(d, POWER_CAP); return code;
    case NVML_FI_DEV_PERF_POLICY_THERMAL: /* by whatever is too warm */
        field->value.ullVal = slowed_ns(d, SW_THERMAL) + (unsigned long long)(1e9 * integral(&slow[d->gpu][HW_THERMAL], now_s()));
        return code;
    case NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN: field->value.ullVal = slowed_ns(d, SW_THERMAL); return code;
    case NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN: field->value.ullVal = slowed_ns(d, HW_THERMAL); return code;
    case NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN:
        field->value.ullVal = slowed_ns(d, POWER_BRAKE);
        return code;
    default: return NVML_ERROR_NOT_SUPPORTED;
    }
}
nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values) {
    BEGIN(device);
    WHOLE_GPU_ONLY(device);
    for (int i = 0; i < count; i++) {
        char key[24];
        snprintf(key, sizeof key, "field.%u", values[i].fieldId);
        nvmlReturn_t scripted = (nvmlReturn_t)number(device, key, NVML_SUCCESS);
        values[i].nvmlReturn = scripted != NVML_SUCCESS ? scripted : give_field(device, &values[i]);
    }
    return leave(NVML_SUCCESS);
}
nvmlReturn_t nvmlDeviceGetViolationStatus(nvmlDevice_t device, nvmlPerfPolicyType_t policy, nvmlViolationTime_t *time) {
    BEGIN(device);
    if (device->mig >= 0 || !of_device(device, "violations")) return leave(NVML_ERROR_NOT_SUPPORTED);
    if (policy != NVML_PERF_POLICY_POWER && policy != NVML_PERF_POLICY_THERMAL) return leave(NVML_ERROR_NOT_SUPPORTED);
    time->referenceTime = (unsigned long long)(now_s() * 1e6);
    time->violationTime = slowed_ns(device, policy == NVML_PERF_POLICY_POWER ? POWER_CAP : SW_THERMAL);
    return leave(NVML_SUCCESS);
}
